"""A client and a broker joined in memory."""

from __future__ import annotations

from penstock.protocol.connection import NEED_DATA, Connection, Role
from penstock.protocol.events import (
    Failed,
    Reply,
    Request,
)
from tests.protocol.samples import (
    HELLO as GREETING,
)
from tests.protocol.samples import (
    WELCOME,
    batches,
    stored_batches,
)

BATCH = batches()["one_value"]
RUN = stored_batches()["keys"] + stored_batches()["everything"]


class Pair:
    """A client and a broker joined in memory; what one sends, the other must receive."""

    def __init__(self, *, greeted=True):
        self.client = Connection(Role.CLIENT)
        self.broker = Connection(Role.BROKER)
        if greeted:
            self.from_client(Request(1, GREETING))
            self.from_broker(Reply(1, WELCOME))

    def from_client(self, event):
        return self._pass(self.client, self.broker, event)

    def from_broker(self, event):
        return self._pass(self.broker, self.client, event)

    @staticmethod
    def _pass(sender, receiver, event):
        receiver.receive_data(sender.send(event))
        received = receiver.next_event()
        assert_same(received, event)
        assert receiver.next_event() is NEED_DATA
        assert sender.state is receiver.state
        assert sender.in_flight == receiver.in_flight
        return received


def assert_same(received, sent):
    if isinstance(sent, Failed):
        assert type(received.error) is type(sent.error)
        assert received.error.message == sent.error.message
        assert (received.correlation, received.type) == (sent.correlation, sent.type)
    else:
        assert received == sent
