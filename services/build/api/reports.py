"""Serves the reports of a build, and its comparison with an earlier build: as JSON and as pages."""

import asyncio
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from services.build.api.page_views import BuildPages
from services.build.api.source_view import LARGEST_BYTES, FileView, source_view
from services.build.builds.build import Build
from services.build.builds.build_comparison import Comparison, compare
from services.build.builds.build_query import judged_before
from services.build.builds.build_store import BuildStore
from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_record import BuildReport, FileCoverage, RecordedFinding, TestRun
from services.build.git.repository import GitFailed, Repositories
from services.build.git.tree_limits import BadTree
from shared.errors import Invalid, NotFound, Problem
from shared.models import View
from shared.web.openapi import AS_PAGE, GONE, Responses
from shared.web.pages import wants_page

Item = TypeVar("Item")
PAGE_OR_GONE: Responses = {**AS_PAGE, **GONE}


class Part(View, Generic[Item]):
    """Response body of `GET /builds/{id}/tests`, `/coverage` and `/findings`: one list (tests, files or findings) of
    the build's report.
    """

    known: bool = Field(description="False until the build has run its steps, and if it never ran any.")
    items: list[Item]
    cut: list[str] = Field(description="Descriptions of what was left out because of its size.")


def reports_router(store: BuildStore, reports: ReportFiles, repositories: Repositories, pages: BuildPages) -> APIRouter:
    router = APIRouter(prefix="/builds/{build_id}", tags=["reports"])

    async def found(build_id: str) -> Build:
        return await store.build(build_id)

    Found = Annotated[Build, Depends(found)]

    async def report_of(build: Build) -> BuildReport | None:
        """Returns the build's report, or None if there is none. Raises a Problem with status 410 if retention has
        deleted it.
        """
        if build.expired.log is not None:
            raise Problem(
                f"the reports of {build.id} were deleted by the retention policy on {build.expired.log:%Y-%m-%d}",
                status=410,
            )
        return await asyncio.to_thread(reports.read, ran(build))

    def shown(request: Request, template: str, build: Build, **context: Any) -> HTMLResponse:
        return HTMLResponse(pages.part(template, build, request.url.hostname, **context))

    async def part(request: Request, build: Build, name: str) -> Any:
        """Returns the list `name` of the build's report: as an HTML page for a browser, else as JSON with the fields of
        `Part`.
        """
        report = await report_of(build)
        if wants_page(request.headers.get("accept")):
            return shown(request, f"{name}.html", build, report=report)
        whole = report or BuildReport()
        return {"known": report is not None, "items": getattr(whole, name), "cut": whole.cut}

    @router.get("/tests", response_model=Part[TestRun], summary="Tests of a build", responses=PAGE_OR_GONE)
    async def tests(request: Request, build: Found) -> Any:
        """Lists the tests of the build, failed ones first, with the output of failed ones. Of a step that was run a
        second time, lists the tests of the second run alone.
        """
        return await part(request, build, "tests")

    @router.get("/coverage", response_model=Part[FileCoverage], summary="Coverage of a build", responses=PAGE_OR_GONE)
    async def coverage(request: Request, build: Found) -> Any:
        """Lists the files of the commit with the lines that ran in tests and those that did not; the file with the most
        missed lines comes first.
        """
        return await part(request, build, "coverage")

    @router.get(
        "/findings", response_model=Part[RecordedFinding], summary="Findings of a build", responses=PAGE_OR_GONE
    )
    async def findings(request: Request, build: Found) -> Any:
        """Lists the findings in the steps' SARIF reports, and those of the platform's own analysis."""
        return await part(request, build, "findings")

    @router.get("/source", response_model=FileView, summary="A file of a build's commit", responses=PAGE_OR_GONE)
    async def source(request: Request, build: Found, file: Annotated[str, Query(min_length=1, max_length=1000)]) -> Any:
        """Shows a file line by line, with the lines that ran in tests and the findings in it."""
        try:
            data = await repositories.in_thread(_content, repositories, build, file)
        except (GitFailed, BadTree) as error:
            raise NotFound(f"the commit {build.commit[:10]} is no longer in the repository of {build.app}") from error
        view = source_view(file, data, await report_of(build) or BuildReport())
        return shown(request, "source.html", build, view=view) if wants_page(request.headers.get("accept")) else view

    @router.get(
        "/comparison", response_model=Comparison, summary="A build compared with an earlier one", responses=PAGE_OR_GONE
    )
    async def comparison(
        request: Request,
        build: Found,
        other: Annotated[
            str | None, Query(alias="with", max_length=80, description="Id of another build of the app.")
        ] = None,
    ) -> Any:
        """Compares the build with another build of its app, by default with the last earlier build of its branch that
        ended in success, failure or error.
        """
        before = await store.build(other) if other else await judged_before(store, build)
        if before is not None and before.app != build.app:
            raise Invalid("with", f"{before.id} is a build of {before.app}, not of {build.app}")
        as_page = wants_page(request.headers.get("accept"))
        if before is None and not as_page:
            raise NotFound(f"no build of the same branch was judged before {build.id}; name one with `with`")
        compared = None
        if before is not None:
            was, now = [await asyncio.to_thread(reports.read, ran(each)) for each in (before, build)]
            compared = await asyncio.to_thread(compare, before, build, was, now)
        return shown(request, "comparison.html", build, comparison=compared) if as_page else compared

    return router


def ran(build: Build) -> str:
    """Returns the id of the build whose steps produced the report of `build`: an earlier build if `build` reuses that
    build's result, else `build` itself.
    """
    return build.reused or build.id


def _content(repositories: Repositories, build: Build, file: str) -> bytes | None:
    """Returns the content of a file of the build's commit; None if it is a link or larger than 1 MiB. Raises NotFound
    if the commit has no such file, and BadTree or GitFailed if git cannot read the commit.
    """
    tracked = next((each for each in repositories.tracked(build.app, build.tree) if each.path == file), None)
    if tracked is None:
        raise NotFound(f"the commit {build.commit[:10]} has no file {file[:200]}")
    if not tracked.mode.startswith("100") or tracked.size > LARGEST_BYTES:
        return None
    return repositories.read(build.app, tracked)
