"""Opens, resumes, promotes and aborts canary rollouts, ends their steps, and changes the canary's share of visitors,
for the REST interface and the pages.
"""

from collections.abc import Awaitable, Callable

from pydantic import JsonValue

from services.proxy.control.control_plane import ControlPlane
from services.proxy.routes.rollout import SUPERSEDED, Promotion, Rollout, with_earlier
from services.proxy.routes.rollout_steps import held, next_step, opened, resumed, step_over
from shared.canary import DEFAULT_WEIGHT, Canary
from shared.errors import Conflict, Invalid, Timeout
from shared.models import release_number
from shared.proxy_models import RolloutAdvance, RolloutState, RolloutView, VerdictResult

CONFIRM_S = 3.0
SHOWN = RolloutView.model_fields.keys() - {"app", "enabled", "weight"}


class RolloutService:
    """Opens, changes and ends canary rollouts. Methods that change one return after Envoy has accepted the change,
    except `promote`, and `advance` with a hold, which only store it. `check_promotion` raises Conflict if a release's
    build may not go to production. Methods raise NotFound for an app without a route, Conflict if the rollout's state
    does not allow the operation, and Timeout if Envoy has not accepted the change within 3 s; it is stored even so.
    """

    def __init__(self, control: ControlPlane, check_promotion: Callable[[str], Awaitable[None]]) -> None:
        self._control = control
        self._check_promotion = check_promotion

    def view(self, app: str) -> RolloutView:
        route = self._control.route(app)
        rollout = route.rollout
        shown = {name: getattr(rollout, name) for name in SHOWN} if rollout else {}
        return RolloutView(app=app, enabled=route.enabled, weight=route.weight, **shown)

    def earlier(self, app: str) -> list[Rollout]:
        """Returns the app's last 20 rollouts before the current one, newest first."""
        return self._control.route(app).earlier

    async def open(
        self,
        app: str,
        release: str,
        weight: int | None,
        notify: list[str],
        canary: Canary | None = None,
        override_key: str = "",
    ) -> RolloutView:
        """Opens the rollout of `release`, and aborts an older active one as superseded. A repeated call changes
        nothing. `canary` is the manifest's section of that name; None: a fixed share of `weight` percent (None: 33).
        `notify` holds addresses for the rollout's events; `override_key` is the value of `x-canary` that forces the
        canary. Raises Invalid if `release` is not the id of a release of this app, and Conflict if it was aborted or is
        older than the release of the current rollout.
        """
        if not release.startswith(f"{app}-r") or not release_number(release):
            raise Invalid("release", f"`{release}` is not a release of {app}; its ids look like {app}-r9")
        route = self._control.route(app)
        current = route.rollout
        if release in self._control.aborted:
            raise Conflict(f"{release} was aborted and does not come back; deploy a new build")
        if current is None or current.release != release:
            if current is not None and release_number(release) < release_number(current.release):
                raise Conflict(f"{release} is older than {current.release}, whose rollout is the current one")
            if current is not None and current.active:
                route = self._control.abort(app, SUPERSEDED)
            now = self._control.now()
            commit = route.canary_commit(release)
            rollout = Rollout(release=release, commit=commit, reason="the canary is ready", at=now, notify=notify)
            if canary is not None:
                plan = {"steps": canary.plan(), "promote": canary.promote, "mirror": canary.mirror}
                rollout = rollout.model_copy(update=plan | {"override_key": override_key})
                weight = rollout.steps[0].weight
            weight = DEFAULT_WEIGHT if weight is None else weight
            earlier = with_earlier(route.rollout, route.earlier)
            self._control.put_rollout(app, *opened(rollout, now), weight=weight, earlier=earlier)
        return await self._confirmed(app)

    async def set(self, app: str, enabled: bool | None, weight: int | None) -> RolloutView:
        """Changes the canary's share of new visitors (`weight`, in percent) until the current step ends, and whether
        the canary gets a share at all (`enabled`). None keeps the present value.
        """
        route = self._control.route(app)
        asked = {"enabled": enabled, "weight": weight}
        self._control.put(route.model_copy(update={key: value for key, value in asked.items() if value is not None}))
        return await self._confirmed(app)

    async def abort(self, app: str, release: str, reason: str, evidence: dict[str, JsonValue]) -> RolloutView:
        """Aborts the rollout of `release`: takes the canary out of every route, for good, and stores `evidence` (the
        measurements that led to it). For a rollout that is already aborted, only waits until Envoy has accepted the
        routes without the canary; the evidence of the first call stays.
        """
        rollout = self._current(app, release)
        if rollout.state is RolloutState.PROMOTED:
            raise Conflict(f"{release} is promoted; roll production back instead")
        if rollout.active:
            await self._control.cut_off(app, _text(reason) or "aborted by hand", evidence)
        return await self._confirmed(app)

    async def advance(self, app: str, asked: RolloutAdvance) -> RolloutView:
        """Ends the rollout's current step with the verdict of the canary analysis or, if the request has a `hold`,
        stores that reason why the step goes on. Does nothing if the step has ended or waits for a person. Raises
        Conflict if the rollout is not progressing or is being promoted, and Invalid for a verdict `fail` without a
        hold.
        """
        rollout = self._current(app, asked.release)
        if _is_over(rollout, asked.step) or rollout.awaits_person:
            return await self._confirmed(app)
        if asked.verdict.result is VerdictResult.FAIL and not asked.hold:
            raise Invalid("verdict", "a canary that failed goes no further; abort its rollout")
        if rollout.state is not RolloutState.PROGRESSING or rollout.promotion:
            why = "is being promoted" if rollout.promotion else f"is {rollout.state}: {rollout.reason}"
            raise Conflict(f"{rollout.release} {why}")
        _check_step_left(rollout)
        verdict = asked.verdict.model_copy(update={"reason": _text(asked.verdict.reason)})
        if asked.hold:
            route = self._control.route(app)
            on_hold = held(rollout, _text(asked.hold), verdict)
            self._control.put(route.model_copy(update={"rollout": on_hold}))
            return self.view(app)
        self._put(app, step_over(rollout, verdict, self._control.now()))
        return await self._confirmed(app)

    async def skip(self, app: str, release: str, reason: str, step: int | None) -> RolloutView:
        """Ends the current step now, even if the rollout is paused, and goes on to the next one. Does nothing if `step`
        (its number from 0; None: the current one) has ended before. Raises Conflict if the rollout has ended or has no
        step left, is being promoted, or was paused by Slipway itself.
        """
        rollout = self._current(app, release)
        if _is_over(rollout, step):
            return await self._confirmed(app)
        self._check_resumable(rollout)
        _check_step_left(rollout)
        if rollout.promotion:
            raise Conflict(f"{release} is being promoted, which ends all its steps")
        self._put(app, next_step(rollout, _text(reason) or "skipped by hand", None, self._control.now()))
        return await self._confirmed(app)

    async def resume(self, app: str, release: str, reason: str, step: int | None = None) -> RolloutView:
        """Resumes a paused rollout; if it waits for a person at the end of a step, goes on to the next one. Does
        nothing if it is not paused, or if `step` (its number from 0; None: the current one) has ended before. Raises
        Conflict if the rollout has ended, or if Slipway itself has paused it, because Slipway then also resumes it.
        """
        rollout = self._current(app, release)
        if _is_over(rollout, step):
            return await self._confirmed(app)
        self._check_resumable(rollout)
        if rollout.state is RolloutState.PAUSED:
            self._put(app, resumed(rollout, _text(reason) or "resumed by hand", self._control.now()))
        return await self._confirmed(app)

    async def promote(self, app: str, release: str) -> RolloutView:
        """Stores the request to promote, and returns the rollout with its state unchanged. A background loop then asks
        the deployer to release the build to production, and ends the rollout as promoted or, if the deployer refuses,
        pauses it. Raises Conflict if the build skipped steps that production requires.
        """
        rollout = self._current(app, release)
        if rollout.active and rollout.promotion is None:
            await self._check_promotion(release)
            rollout = self._current(app, release)  # the rollout may have been aborted in the meantime
        if rollout.state is RolloutState.ABORTED:
            raise Conflict(f"{release} was aborted and cannot be promoted; deploy a new build")
        if rollout.active and rollout.promotion is None:
            promoting = rollout.model_copy(update={"promotion": Promotion(asked_at=self._control.now())})
            self._control.put(self._control.route(app).model_copy(update={"rollout": promoting}))
        return self.view(app)

    def _check_resumable(self, rollout: Rollout) -> None:
        if not rollout.active:
            raise Conflict(f"{rollout.release} is {rollout.state} and cannot be resumed; deploy a new build")
        if rollout.resumes_by_itself:
            raise Conflict(f"{rollout.release} is paused by the platform and goes on by itself: {rollout.reason}")

    def _put(self, app: str, reached: list[Rollout]) -> None:
        """Stores the last of `reached` (the states that the rollout passed through) with the share of its step, and an
        event for each of them.
        """
        last, weight = reached[-1], self._control.route(app).weight
        before = self._control.route(app).rollout
        if before is not None and last.step != before.step and not last.has_passed:
            weight = last.steps[last.step].weight
        self._control.put_rollout(app, *reached, weight=weight)

    def _current(self, app: str, release: str) -> Rollout:
        current = self._control.route(app).rollout
        if current is None:
            raise Conflict(f"{app} has no rollout; release a build to its canary first")
        if current.release != release:
            raise Conflict(f"{release} is not the current rollout of {app}, which is {current.release}")
        return current

    async def _confirmed(self, app: str) -> RolloutView:
        try:
            await self._control.confirm(app, CONFIRM_S)
        except Timeout as error:
            raise Timeout(f"stored, but Envoy has not confirmed it {error.detail}", **error.extra) from error
        return self.view(app)


def _is_over(rollout: Rollout, step: int | None) -> bool:
    """Returns True if the rollout has left the step (a number from 0; None: the current one). Raises Conflict if the
    rollout has not begun that step.
    """
    if step is not None and step > rollout.step:
        raise Conflict(f"{rollout.release} is at step {rollout.step} still, counted from 0")
    return step is not None and step < rollout.step


def _check_step_left(rollout: Rollout) -> None:
    if rollout.step >= len(rollout.steps):
        why = "all its steps have ended" if rollout.steps else "its share is fixed"
        raise Conflict(f"{rollout.release} has no step that could end: {why}; promote it or abort it")


def _text(reason: str) -> str:
    """Returns the text with each half of a surrogate pair replaced by `?`: JSON may contain them, but UTF-8 cannot
    encode them.
    """
    return reason.encode(errors="replace").decode()
