"""Answers requests of sqs-orchestrator with boto3 alone: python worker.py orders"""

import json
import logging
import re
import signal
import sys
import threading
import time

import boto3

log = logging.getLogger("worker")
sqs = boto3.client("sqs")
queue = sqs.get_queue_url(QueueName=sys.argv[1])["QueueUrl"]
beside, _, _ = queue.rpartition("/")
account = beside.rpartition("/")[2]
address_form = re.compile(
    rf"[^#]*/{account}/(sqs_orchestrator_reply_[0-9a-f]{{32}})#(.+)", re.DOTALL
)


def text(value):
    return {"DataType": "String", "StringValue": value}


def handle(order):
    """What the worker is for."""
    return {"done": order["id"]}


def answer(message):
    attributes = message.get("MessageAttributes", {})
    given = {name: value.get("StringValue") for name, value in attributes.items()}
    time_to_live = float(given.get("RequestTimeToLive", "inf"))
    expires = int(message["Attributes"]["SentTimestamp"]) + time_to_live
    if expires < time.time() * 1000:
        return  # nobody waits any more
    address = given.get("ResponseQueueUrl")  # without one, it is a one-way message
    found = address and address_form.fullmatch(address)
    if address and not found:
        raise ValueError(f"no reply is sent to {address!r}")
    error = {}
    try:
        body = json.dumps(handle(json.loads(message["Body"])))
    except Exception as failure:
        if not address:
            raise
        log.exception("message %s failed", message["MessageId"])
        code, kind = "handler_error", type(failure).__name__
        body = json.dumps({"code": code, "type": kind, "message": "", "details": None})
        error = {"ReplyError": text(code)}
    if found:
        # Of the address only the name counts: whoever writes to the queue may have made it up.
        name, correlation_id = found.groups()
        head = {"__AmazonSQSVirtualQueuesClient.QueueName": text(correlation_id), **error}
        sqs.send_message(QueueUrl=f"{beside}/{name}", MessageBody=body, MessageAttributes=head)


stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
while not stopping.is_set():
    # One at a time, so each has all of the 60 seconds.
    received = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=1,
        WaitTimeSeconds=20,
        VisibilityTimeout=60,
        MessageSystemAttributeNames=["SentTimestamp"],
        MessageAttributeNames=["All"],
    )
    for message in received.get("Messages", []):
        try:
            answer(message)
        except Exception:
            log.exception("message %s is left, and comes back", message["MessageId"])
        else:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
