"""Named places where a broker can be made to crash, pause or fail.

They lie before and after every step of durability and consensus. Owns the list of steps, the plans
that name them, and the wrapping. Nothing of this is in the broker: wrappers are put around the
functions in `STEPS` only if a plan names them, so a broker without a plan runs its own code alone.
A plan is given at start in the environment variable PENSTOCK_FAILPOINTS:

    flush.work.after=crash@5; message.send.before=pause(0.5)%0.01; checkpoint.work.before=error

A point is a step with `.before` or `.after`; `*` means all. `crash` kills the process, `pause`
stops its thread for some seconds, `error` raises an I/O error there. `@5` acts the fifth time only,
`%0.01` each time with that probability; without either it acts every time. PENSTOCK_FAILPOINTS_LOG
names a file that gets a line for each action, written before it happens.

`@/path/of/a/file` stands for the plan in that file, which may be empty: all steps are wrapped then,
and the file is read again at each SIGUSR1, so that points can be set while the broker works.

`python -m penstock_broker.failpoints` lists all points.
"""

from penstock_broker.failpoints.plan import BadPlan, Rule, parse, points
from penstock_broker.failpoints.steps import ON_DISK, STEPS, Step
from penstock_broker.failpoints.wrapping import LOG, PLAN, Failpoints, install, installed

__all__ = [
    "LOG",
    "ON_DISK",
    "PLAN",
    "STEPS",
    "BadPlan",
    "Failpoints",
    "Rule",
    "Step",
    "install",
    "installed",
    "parse",
    "points",
]
