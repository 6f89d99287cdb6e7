"""The template of the page on AWS Lambda goes with the page's code, its tables, and the library."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from sqs_orchestrator import Message, Poller, Reject, Retry
from sqs_orchestrator.aws_lambda import lambda_handler
from sqs_orchestrator.cli.permissions import STATEMENTS
from sqs_orchestrator.core.names import DEFAULT_PREFIX
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect
from tests.docs.examples import find
from tests.docs.test_examples import ROOT
from tests.lambda_events import event

PATH = ROOT / "docs" / "how-to" / "lambda.md"
PAGE = PATH.read_text("utf-8")

MANAGED = {
    (action, "queue") for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
}
"""What of SQS `AWSLambdaSQSQueueExecutionRole` allows."""

ACCOUNT = "123456789012"


def _short_form(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    return {suffix: loader.construct_scalar(node)}


_LOADER: Any = type("Loader", (yaml.SafeLoader,), {})
"""Reads CloudFormation's short forms: `!Ref x` is `{"Ref": "x"}`."""
_LOADER.add_multi_constructor("!", _short_form)


def template() -> dict[str, Any]:
    (block,) = re.findall(r"<!-- template -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = yaml.load(block, _LOADER)
    assert isinstance(found, dict)
    return found


RESOURCES = template()["Resources"]
FUNCTION = RESOURCES["Orders"]["Properties"]
QUEUE = RESOURCES["OrdersQueue"]["Properties"]
(EVENT,) = FUNCTION["Events"].values()

PLACES = {
    json.dumps({"GetAtt": "OrdersQueue.Arn"}): "queue",
    json.dumps({"GetAtt": "OrdersDeadLetters.Arn"}): "dead_letters",
    json.dumps(
        {
            "Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}"
            f":{DEFAULT_PREFIX}*"
        }
    ): "replies",
}
"""The resources of the policy, as the library's own table of permissions calls them."""


def given() -> set[tuple[str, str]]:
    """What the template's own statements allow, and where."""
    (policy,) = FUNCTION["Policies"]
    found = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            found.add((action.removeprefix("sqs:"), PLACES[json.dumps(statement["Resource"])]))
    return found


def test_message_stays_hidden_for_six_times_the_timeout() -> None:
    assert QUEUE["VisibilityTimeout"] == 6 * FUNCTION["Timeout"]
    assert "| the queue's visibility timeout | six times the function's timeout" in PAGE


def test_failures_are_reported_and_end_in_the_dead_letter_queue() -> None:
    assert EVENT["Type"] == "SQS"
    assert EVENT["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    redrive = QUEUE["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"GetAtt": "OrdersDeadLetters.Arn"}
    assert redrive["maxReceiveCount"] >= 5
    assert RESOURCES["OrdersDeadLetters"]["Type"] == "AWS::SQS::Queue"


def test_poller_of_the_page_is_of_the_queue_that_the_function_is_mapped_to() -> None:
    code = find(PATH)[0].code
    module, name = FUNCTION["Handler"].split(".")
    assert re.search(rf"^{name} = lambda_handler\(", code, re.MULTILINE)
    assert f"In a module `{module}.py`" in PAGE
    # Its name in the code would be none: the stack chooses it.
    (variable,) = re.findall(r'Poller\(sqs, os\.environ\["(\w+)"\]', code)
    assert FUNCTION["Environment"]["Variables"] == {variable: {"Ref": "OrdersQueue"}}
    assert EVENT["Properties"]["Queue"] == {"GetAtt": "OrdersQueue.Arn"}
    assert template()["Outputs"]["QueueUrl"]["Value"] == {"Ref": "OrdersQueue"}


def test_permissions_are_those_of_a_worker_and_of_the_table() -> None:
    worker = {
        (action, each.place)
        for each in STATEMENTS
        if each.role == "worker"
        for action in each.actions
    }
    # With the URL nothing is looked up.
    assert given() | MANAGED == worker - {("GetQueueUrl", "queue")}
    assert not given() & MANAGED
    rows = re.findall(
        r"^\| `sqs:(\w+)` on (?:the )?(queue|reply queues|dead-letter)", PAGE, re.MULTILINE
    )
    places = {"reply queues": "replies", "dead-letter": "dead_letters", "queue": "queue"}
    table = {(action, places[place]) for action, place in rows}
    assert table == given() | {("GetQueueUrl", "queue"), ("GetQueueAttributes", "queue")}


async def test_function_makes_the_calls_that_its_role_allows_and_no_others() -> None:
    replies = f"{DEFAULT_PREFIX}1"
    names = {"orders": "queue", "orders_dlq": "dead_letters", replies: "replies"}
    server = MemoryServer(region="eu-west-1", account=ACCOUNT)
    setting = MemorySQS(server)
    async with connect(server) as sqs:
        url = await sqs.create_queue("orders", dead_letter_queue=True)
        await sqs.create_queue(replies)

        async def handle(message: Message) -> str:
            outcome = {"rejected": Reject("x"), "later": Retry(1)}.get(message.body)
            if outcome is not None:
                raise outcome
            return "done"

        address = {"DataType": "String", "StringValue": f"{server.url(replies)}#c1"}
        await setting.send(
            url,
            [
                SendEntry("asked", {"ResponseQueueUrl": address}),
                SendEntry("rejected", {}),
                SendEntry("later", {}),
            ],
        )
        batch = await setting.receive(url, visibility_timeout=QUEUE["VisibilityTimeout"])
        before = len(server.log)
        handler = lambda_handler(Poller(sqs, url, handle))
        answer = await handler.handle(event(f"arn:aws:sqs:eu-west-1:{ACCOUNT}:orders", batch))
        await handler.aclose()
    assert len(answer["batchItemFailures"]) == 1
    called = {
        (call.operation.removesuffix("Batch"), names[str(call.queue)])
        for call in server.log[before:]
    }
    # Lambda itself receives and deletes.
    assert called == given() | {("GetQueueAttributes", "queue")}
