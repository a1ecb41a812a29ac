"""Defines the bundle of stores, clients and settings that every run of a build needs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.build.analysis.code_analysis import Analysis
from services.build.builds.build_store import BuildStore
from services.build.cache.cache_store import CacheStore
from services.build.executors.executor import Executor
from services.build.gates.history_store import HistoryStore
from services.build.gates.report_archive import ReportFiles
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.pipeline.deadline import TimeLimits
from services.build.pipeline.deployer_client import DeployerClient
from services.build.secrets.secret_store import SecretStore
from shared.host.disk_reserve import DiskReserve
from shared.models import Environment
from shared.security.vault import Vault


@dataclass(frozen=True)
class BuildContext:
    """Holds the stores, clients and settings that the runs of all builds share."""

    store: BuildStore
    history: HistoryStore
    cache: CacheStore
    secrets: SecretStore
    vault: Vault
    """Decrypts what `secrets` stores."""
    repositories: Repositories
    executor: Executor
    analysis: Analysis
    logs: BuildLogs
    reports: ReportFiles
    deployer: DeployerClient
    releases: Path
    """Folder that holds the checkouts of all builds."""
    reserve: DiskReserve
    """Free space of the disk that holds the checkouts."""
    urls: Callable[[str, Environment], list[str]]
    """Function that returns the URLs at which an app is served in an environment."""
    git_url: Callable[[str], str]
    """Function that returns the URL of an app's repository."""
    build_url: Callable[[str], str]
    """Function that returns the URL of a build's page."""
    now: Callable[[], datetime]
    limits: TimeLimits
    steps_at_a_time: int
    """Highest number of steps of one build that run at the same time."""
