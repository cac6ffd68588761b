"""Going on alone when most of the others are lost for ever: outside of Raft's rules, at a word.

Raft gives nothing up, so a group without a majority waits for ever. Somebody who knows that the
others never come back names the one that goes on, and a term that none of them can have seen. The
survivor takes its log as it is for what was decided: behind its end comes a configuration of itself
alone, which is in force from there on as any other is (Raft 6), and it leads in that term.

Why it is safe for whoever follows it. Nothing is committed before the new configuration is durable
here: a sole voter counts its own disk only, and only entries of its own term (Raft 5.4.2). A stop
before that leaves no trace that anybody has seen, and it is done again; a stop after it finds a
sole voter, which stands as any other does. No vote of an earlier term counts for this one, and no
log of the others is as good as this one from then on (5.4.1), however long it is, since its last
entry is of a later term. Who may still have a log of before must drop it, not only its end, before
it is a member again: what it takes for committed may never have been here.
"""

from penstock_broker.raft.configuration import Configuration
from penstock_broker.raft.entry import CONFIG
from penstock_broker.raft.roles import become_alone, become_leader
from penstock_broker.raft.state import RaftState, Role


def recover_alone(raft: RaftState, term: int) -> bool:
    """Lead in `term`, or in the next one if that is over, as the only voter; False: not now.

    Not now: this node leads (without a quorum it steps down by itself), or takes a snapshot.
    """
    log = raft.log
    if raft.role is Role.LEADER or log.durable < log.base_index:
        return False
    become_alone(raft, max(term, raft.term + 1))
    configuration = Configuration.of([raft.id])
    index = raft.append_own([(CONFIG, configuration.encode())])
    raft.history.push(index, configuration)
    raft.configuration = configuration
    become_leader(raft)
    return True
