"""The raw messages of the page on the wire format that go to and from the Java client."""

from __future__ import annotations

import sqs_orchestrator as so
from tests.docs.messages import Recorder, check
from tests.servers import CREDENTIALS

from .conftest import JAVA_PREFIX, Start


async def test_page_shows_what_java_sends_and_what_it_is_sent(
    start_java: Start, endpoint_url: str
) -> None:
    async def handle(message: so.Message) -> dict[str, int]:
        return {"done": message.json()["id"]}

    with Recorder(endpoint_url) as recorder:
        java = await start_java(recorder.url)
        await java.requester()
        async with so.connect(endpoint_url=recorder.url, **CREDENTIALS) as sqs:
            orders = await sqs.create_queue("orders")
            async with so.Poller(sqs, orders, handle, wait_time=2):
                await java.ask(orders, ['{"id":1}'])
            check("java-request", recorder.first("SendMessage", "orders"))
            check("reply-to-java", recorder.first("SendMessageBatch", JAVA_PREFIX))
            await java.responder(orders)
            async with so.Publisher(sqs) as publisher:
                await publisher.request(orders, {"done": 1}, timeout=30)
            check("java-reply", recorder.first("SendMessage", "sqs_orchestrator_reply_"))
            await sqs.port.delete_queue(orders)
