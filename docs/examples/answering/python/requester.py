"""Asks workers of sqs-orchestrator with boto3 alone: python requester.py orders '{"id": 1}' …"""

import json
import sys
import time
import uuid

import boto3

TIMEOUT = 30

sqs = boto3.client("sqs")
queue = sqs.get_queue_url(QueueName=sys.argv[1])["QueueUrl"]
replies = sqs.create_queue(
    QueueName=f"sqs_orchestrator_reply_{uuid.uuid4().hex}",
    Attributes={"MessageRetentionPeriod": "300", "VisibilityTimeout": "5"},
    # If this program is killed, requesters with the library delete the queue an hour later.
    tags={
        "__IdleQueueRetentionPeriodSeconds": "3600",
        "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp": str(int(time.time() * 1000)),
    },
)["QueueUrl"]
try:
    waiting = {uuid.uuid4().hex: body for body in sys.argv[2:]}
    for correlation_id, body in waiting.items():
        address = f"{replies}#{correlation_id}"
        attributes = {
            "ResponseQueueUrl": {"DataType": "String", "StringValue": address},
            "RequestTimeToLive": {"DataType": "Number", "StringValue": str(TIMEOUT * 1000)},
        }
        sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=attributes)
    until = time.monotonic() + TIMEOUT
    while waiting and time.monotonic() < until:
        received = sqs.receive_message(
            QueueUrl=replies,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=5,
            MessageAttributeNames=["All"],
        )
        for reply in received.get("Messages", []):
            sqs.delete_message(QueueUrl=replies, ReceiptHandle=reply["ReceiptHandle"])
            attributes = reply.get("MessageAttributes", {})
            given = {name: value.get("StringValue") for name, value in attributes.items()}
            body = waiting.pop(given.get("__AmazonSQSVirtualQueuesClient.QueueName"), None)
            if body is not None:  # a reply may come twice
                error = given.get("ReplyError")
                print(json.dumps({"request": body, "reply": reply["Body"], "error": error}))
finally:
    sqs.delete_queue(QueueUrl=replies)
sys.exit(f"no reply to {len(waiting)} requests" if waiting else 0)
