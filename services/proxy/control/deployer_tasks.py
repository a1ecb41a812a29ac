"""Asks the deployer to retire aborted or promoted canaries, and to release promoted builds to production. A request is
stored in the route before it is sent, so that it continues after a restart. Before it requests a release, each attempt
looks for the one that an earlier attempt may have made.
"""

from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.envoy_loops import for_each
from services.proxy.routes.rollout import Promotion, Rollout, ended, paused_for_person
from services.proxy.routes.route import Retirement
from shared.errors import Conflict, Problem
from shared.http import ServiceClient
from shared.models import Page, ReleaseState, ReleaseView, RetireRequest, Track
from shared.proxy_models import RolloutState

CHECK_S = 3.0
ENDED = frozenset({ReleaseState.RETIRED, ReleaseState.FAILED, ReleaseState.ROLLED_BACK})


class DeployerTasks:
    """Sends the deployer the requests that are stored in the routes, until they are done."""

    def __init__(self, control: ControlPlane, deployer: ServiceClient) -> None:
        self._control = control
        self._deployer = deployer

    async def step(self) -> None:
        """Tries once, for each app, what is still to be done: retire aborted or promoted canaries, carry out a
        promotion, and abort a rollout whose release has ended. Continues after an error; at the end raises the first
        one.
        """

        async def run_tasks(app: str) -> None:
            await self._retire(app)
            await self._promote(app)
            await self._follow(app)

        await for_each([route.app for route in self._control.routes.busy()], run_tasks)

    async def check_promotion(self, release: str) -> None:
        """Raises Conflict if the deployer says that the release's build may not go to production. Does nothing if the
        deployer does not answer, because the deployer decides again when the production release is requested.
        """
        try:
            await self._deployer.get(f"/releases/{release}/promotion", timeout_s=CHECK_S, repeatable=False)
        except Problem as problem:
            if problem.status == 409:
                raise Conflict(problem.detail) from None

    async def _retire(self, app: str) -> None:
        for retirement in self._control.route(app).retirements:
            try:
                await self._deployer.post(
                    f"/releases/{retirement.release}/retire", retirement.body.model_dump(), repeatable=True
                )
            except Problem as problem:
                if problem.status not in (404, 409):  # with 404 and 409, the release has ended already
                    raise
            route = self._control.route(app)
            left = [other for other in route.retirements if other != retirement]
            self._control.put(route.model_copy(update={"retirements": left}))

    async def _promote(self, app: str) -> None:
        rollout = self._control.route(app).rollout
        if rollout is None or rollout.promotion is None:
            return
        if rollout.promotion.release is None:
            asked = await self._ask_for_production(app, rollout, rollout.promotion)
        else:
            asked = await self._release(rollout.promotion.release)
        if asked is None:
            return
        current = self._control.route(app).rollout
        if current is None or current.release != rollout.release or current.promotion is None:
            return  # the rollout was aborted in the meantime
        if asked.unchanged or asked.state is ReleaseState.LIVE or asked.live_at is not None:
            self._promoted(app, current, asked.id)
        elif asked.state in ENDED:
            self._pause(app, current, f"promotion failed: {asked.id} {asked.state}: {asked.reason}")
        elif current.promotion.release is None:
            promotion = current.promotion.model_copy(update={"release": asked.id})
            update = {"rollout": current.model_copy(update={"promotion": promotion})}
            self._control.put(self._control.route(app).model_copy(update=update))

    async def _ask_for_production(self, app: str, rollout: Rollout, promotion: Promotion) -> ReleaseView | None:
        """Returns the production release of the canary's build. If the deployer has made none since the promotion was
        requested, requests one. If the deployer refuses that (4xx), pauses the rollout and returns None.
        """
        build = (await self._release(rollout.release)).build
        path = f"/apps/{app}/environments/production/releases"
        releases = Page[ReleaseView].model_validate(await self._deployer.get(path)).items
        for release in releases:
            if release.build == build and release.created_at >= promotion.asked_at:
                return release
        try:
            return ReleaseView.model_validate(await self._deployer.post(path, {"build": build}, timeout_s=15.0))
        except Problem as problem:
            current = self._control.route(app).rollout
            if problem.status >= 500:
                raise
            if current is not None and current.release == rollout.release and current.active:
                self._pause(app, current, f"promotion refused: {problem.detail}")
            return None

    async def _follow(self, app: str) -> None:
        """Aborts the app's active rollout if its release has ended. Asks the deployer for the state of the release only
        if the canary has no instances left.
        """
        route = self._control.route(app)
        rollout = route.rollout
        if rollout is None or not rollout.active or rollout.promotion or route.endpoints[Track.CANARY]:
            return
        release = await self._release(rollout.release)
        current = self._control.route(app).rollout
        if release.state in ENDED and current is not None and current.active and current.release == release.id:
            self._control.abort(app, f"release {release.state}: {release.reason}")

    async def _release(self, release: str) -> ReleaseView:
        return ReleaseView.model_validate(await self._deployer.get(f"/releases/{release}"))

    def _promoted(self, app: str, rollout: Rollout, production: str) -> None:
        now = self._control.now()
        route = self._control.route(app)
        reason = f"promoted as {production}"
        retirement = Retirement(release=rollout.release, body=RetireRequest(state="retired", reason=reason))
        done = ended(rollout, RolloutState.PROMOTED, reason, self._control.evidence(route, {}), now)
        self._control.put_rollout(app, done, retirements=[*route.retirements, retirement])

    def _pause(self, app: str, rollout: Rollout, reason: str) -> None:
        self._control.put_rollout(app, paused_for_person(rollout, reason, self._control.now()))
