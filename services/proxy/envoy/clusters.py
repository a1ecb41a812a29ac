"""Creates Envoy's clusters and endpoints (CDS, EDS) for the apps' routes, as JSON documents. Pure. Each app has three
clusters. `<app>/stable` (production) and `<app>/canary` get their endpoints from the keeper, which reads EDS files.
`<app>/split` prefers the canary and falls back to production. A release never changes the definition of these clusters,
because Envoy starts a changed cluster anew. During a rollout with mirroring there is a fourth one, `<app>/mirror`, with
the canary's endpoints. With the time-outs, thresholds and intervals in this file, no request was lost in tests in which
an instance dies.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from services.proxy.routes.route import Endpoint, EndpointState, Route
from services.proxy.visitors.refusals import MOST_HEADERS
from shared.manifest import FORWARDED_PROTO, health_check
from shared.models import Track

Json = dict[str, Any]

IDLE = "1.5s"
MIRRORED_S = 10  # a copied request that takes longer is cut off

EDS_HEALTH = {
    EndpointState.READY: "HEALTHY",
    EndpointState.UNHEALTHY: "UNHEALTHY",
    EndpointState.DRAINING: "DRAINING",
}


def cluster_name(app: str, track: Track) -> str:
    """Returns the name of the cluster with the instances of one track (production or canary). Envoy's statistics use
    it, too.
    """
    return f"{app}/{track}"


def split_name(app: str) -> str:
    """Returns the name of the cluster that serves the canary's share of visitors and falls back to production."""
    return f"{app}/split"


def mirror_name(app: str) -> str:
    """Returns the name of the cluster that takes the copies of production's requests to the canary."""
    return f"{app}/mirror"


def eds_file(app: str, track: Track) -> str:
    """Returns the path, in Envoy's folder, of the file with the endpoints of one track (production or canary)."""
    return f"eds/{app}.{track}.json"


def file_source(path: Path) -> Json:
    """Returns a config source that Envoy reads again whenever a new file is moved onto `path` (but not when the file is
    written to).
    """
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def clusters(route: Route) -> list[Json]:
    """Returns Envoy's clusters for the app: one for production, one for the canary, one that prefers the canary and
    falls back to production, and, if the rollout copies requests to the canary, one for the copies.
    """
    tracks = [_with_endpoints(_track_cluster(route, track), route.app, track) for track in (Track.CANARY, Track.STABLE)]
    rollout = route.active_rollout
    mirror = (
        [_with_endpoints(_mirror_cluster(route.app), route.app, Track.CANARY)] if rollout and rollout.mirror else []
    )
    return [*tracks, _split_cluster(route.app), *mirror]


def endpoints(route: Route, track: Track) -> list[Json]:
    """Returns the content of the file with the endpoints (EDS) of the track (production or canary): a list of one
    ClusterLoadAssignment.
    """
    health = route.health_of(track)
    hosts = [_endpoint(endpoint, track, health) for _, endpoint in sorted(route.endpoints[track].items())]
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster_name(route.app, track),
        "endpoints": [{"lb_endpoints": hosts}] if hosts else [],
    }
    return [assignment]


def _endpoint(endpoint: Endpoint, track: Track, health: str) -> Json:
    host, _, port = endpoint.address.rpartition(":")
    metadata = {"track": str(track), "release": endpoint.release, "instance": endpoint.id}
    # A release with another health check would fail the track's check; the deployer still probes it.
    unchecked = endpoint.health not in (None, health)
    return {
        "endpoint": {
            "address": {"socket_address": {"address": host, "port_value": int(port)}},
            # The default is the cluster's name, whose slash makes nginx and others answer 400.
            "health_check_config": {
                "hostname": endpoint.health_host or endpoint.address,
                "disable_active_health_check": unchecked,
            },
        },
        "health_status": EDS_HEALTH[endpoint.state],
        "metadata": {"filter_metadata": {"slipway": metadata}},
    }


def _with_endpoints(cluster: Json, app: str, track: Track) -> Json:
    """Returns the cluster with the source of its endpoints added. The name of the endpoints contains a hash of the
    cluster's definition: Envoy requests endpoints anew only for a new name, and a changed cluster serves no request
    before it has got them.
    """
    definition = hashlib.sha256(json.dumps(cluster, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{Path(eds_file(app, track)).stem}#{definition}"
    # No time-out, because after one the cluster would serve without endpoints. The keeper answers for every name.
    source = {"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "0s"}
    return {**cluster, "eds_cluster_config": {"service_name": name, "eds_config": source}}


def _track_cluster(route: Route, track: Track) -> Json:
    threshold = {
        "max_connections": 4096,
        "max_pending_requests": 4096,
        "max_requests": 4096,
        "max_retries": 1024,  # the default, 3, is used up at once when an instance dies
    }
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": cluster_name(route.app, track),
        "type": "EDS",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {"thresholds": [threshold]},
        # With a merge window (1 s by default), the admin reports an endpoint as healthy before workers know. Panic
        # only when none is healthy, so that draining and dead instances get no requests while another one lives.
        "common_lb_config": {"update_merge_window": "0s", "healthy_panic_threshold": {"value": 1}},
        "health_checks": [_health_check(route.health_of(track))],
        "outlier_detection": _only_failed_connections(),
        # Below the 2 s after which gunicorn closes an idle connection (uvicorn and Node: 5 s). A request that is sent
        # while the app closes the connection is lost, unless it may be sent again. Above the 1 s between health checks,
        # for whose connection this holds, too.
        **_http_1({"idle_timeout": IDLE}),
    }


def _mirror_cluster(app: str) -> Json:
    """Returns the cluster for copies of production's requests to the canary. Its limits keep copies from taking the
    canary's connections from visitors, and from hanging for ever. It has no health check: a copy is lost if the canary
    does not answer.
    """
    threshold = {"max_connections": 64, "max_pending_requests": 64, "max_requests": 64}
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": mirror_name(app),
        "type": "EDS",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [threshold]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        **_http_1({"idle_timeout": IDLE, "max_stream_duration": f"{MIRRORED_S}s"}),
    }


def _http_1(options: Json) -> Json:
    """Returns the part of a cluster that sets HTTP/1.1 and `options` for its connections."""
    return {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"max_headers_count": MOST_HEADERS, **options},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }
    }


def _health_check(health: str) -> Json:
    """Returns the health check `health` (`run.health` of a manifest) in Envoy's form. The deployer's probes make the
    same check (`health_check` in `shared/manifest.py`).
    """
    check = health_check(health)
    forwarded = {"header": {"key": "x-forwarded-proto", "value": FORWARDED_PROTO}}
    http = {
        "path": check.path,
        "request_headers_to_add": [{**forwarded, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        "expected_statuses": [{"start": 200, "end": check.below}],
        "retriable_statuses": [{"start": check.below, "end": 600}],  # otherwise one 503 counts three times
    }
    return {
        "timeout": "1s",
        "interval": "1s",
        "no_traffic_interval": "1s",  # 60 s by default: a first check that fails would cost a minute
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "reuse_connection": True,  # new connections would leave 60 ports in TIME_WAIT
        **({"http_health_check": http} if check.path else {"tcp_health_check": {}}),
    }


def _only_failed_connections() -> Json:
    """Returns an outlier detection that removes an instance from load balancing for failed connections, never for its
    own 5xx answers. Otherwise production would answer in place of a canary that gives only errors, and so hide the
    errors.
    """
    return {
        "split_external_local_origin_errors": True,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_failure_percentage_local_origin": 0,
        "enforcing_consecutive_local_origin_failure": 100,
        "consecutive_local_origin_failure": 3,
        "interval": "2s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 100,
    }


def _split_cluster(app: str) -> Json:
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": split_name(app),
        "connect_timeout": "0.25s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [cluster_name(app, Track.CANARY), cluster_name(app, Track.STABLE)],
            },
        },
    }
