"""Lists the points: `python -m penstock_broker.failpoints`."""

from penstock_broker.failpoints.steps import STEPS

if __name__ == "__main__":
    for step in STEPS:
        print(f"{step.name + '.before':<30}{step.words}: it has not happened")  # noqa: T201 - output
        print(f"{step.name + '.after':<30}{step.words}: it has")  # noqa: T201 - output
