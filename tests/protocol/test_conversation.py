import pytest

from penstock.errors import RemoteProtocolError, UnsupportedVersion
from penstock.protocol.conversation import MOVES, Move, State, negotiate
from penstock.protocol.messages import Hello


def test_table_has_every_state_and_only_one_way():
    assert set(MOVES) == set(State)
    for state, moves in MOVES.items():
        for target in moves.values():
            assert target.value >= state.value


def test_closed_conversation_stays_closed():
    assert set(MOVES[State.CLOSED]) == {Move.END}
    assert set(MOVES[State.REFUSED]) == {Move.GOODBYE, Move.END}


def test_every_live_state_can_be_left():
    for state in (State.IDLE, State.GREETING, State.OPEN):
        assert MOVES[state][Move.END] is MOVES[state][Move.GOODBYE] is State.CLOSED
        assert MOVES[state][Move.BREACH] is State.REFUSED


@pytest.mark.parametrize(("low", "high", "version"), [(1, 1, 1), (0, 1, 1), (1, 99, 1), (-5, 5, 1)])
def test_newest_common_version_is_chosen(low, high, version):
    assert negotiate(Hello(magic="penstock", version_min=low, version_max=high)) == version


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0), (2, 1), (-1, 0)])
def test_without_a_common_version_there_is_none(low, high):
    with pytest.raises(UnsupportedVersion, match="versions"):
        negotiate(Hello(magic="penstock", version_min=low, version_max=high))


def test_other_protocol_is_recognised():
    with pytest.raises(RemoteProtocolError):
        negotiate(Hello(magic="kafka", version_min=1, version_max=1))
