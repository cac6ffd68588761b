"""What Raft answers to a request that it can't take. The node layer translates these."""


class RaftError(Exception):
    """Base of the refusals of this package."""


class NotLeader(RaftError):
    """Only the leader takes this request; `leader` is the node to ask, 0 when unknown."""

    def __init__(self, leader: int) -> None:
        super().__init__(f"not the leader; the leader is {leader}")
        self.leader = leader


class Refused(RaftError):
    """The leader can't take this request now (or ever, as the text says)."""
