"""The parts of `ops/demo`: the data, the broker process, the programs at work, the judgement."""
