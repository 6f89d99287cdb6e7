// Answers requests of sqs-orchestrator with the AWS SDK alone: node worker.js orders
import { SQS } from "@aws-sdk/client-sqs";

// Never the host of a URL: one could come from a message.
const sqs = new SQS({ useQueueUrlAsEndpoint: false });
const { QueueUrl } = await sqs.getQueueUrl({ QueueName: process.argv[2] });
const beside = QueueUrl.slice(0, QueueUrl.lastIndexOf("/"));
const account = beside.slice(beside.lastIndexOf("/") + 1);
const addressForm = new RegExp(
  `^[^#]*/${account}/(sqs_orchestrator_reply_[0-9a-f]{32})#(.+)$`,
  "s",
);

const text = (StringValue) => ({ DataType: "String", StringValue });

/** What the worker is for. */
async function handle(order) {
  if (order.id === undefined) throw new RangeError("an order has an id");
  return { done: order.id };
}

async function answer(message) {
  const given = (name) => message.MessageAttributes?.[name]?.StringValue;
  const timeToLive = Number(given("RequestTimeToLive") ?? Infinity);
  const expires = Number(message.Attributes.SentTimestamp) + timeToLive;
  if (expires < Date.now()) return; // nobody waits any more
  const address = given("ResponseQueueUrl"); // without one, it is a one-way message
  const found = address?.match(addressForm);
  if (address && !found) throw new Error(`no reply is sent to ${JSON.stringify(address)}`);
  const attributes = {};
  let body;
  try {
    body = JSON.stringify((await handle(JSON.parse(message.Body))) ?? null);
  } catch (failure) {
    if (!found) throw failure;
    console.error(`message ${message.MessageId} failed`, failure);
    const code = "handler_error";
    body = JSON.stringify({ code, type: failure?.name ?? null, message: "", details: null });
    attributes.ReplyError = text(code);
  }
  if (found) {
    // Of the address only the name counts: whoever writes to the queue may have made it up.
    const [, name, correlationId] = found;
    attributes["__AmazonSQSVirtualQueuesClient.QueueName"] = text(correlationId);
    await sqs.sendMessage({
      QueueUrl: `${beside}/${name}`,
      MessageBody: body,
      MessageAttributes: attributes,
    });
  }
}

async function work(message) {
  try {
    await answer(message);
    await sqs.deleteMessage({ QueueUrl, ReceiptHandle: message.ReceiptHandle });
  } catch (failure) {
    console.error(`message ${message.MessageId} is left, and comes back`, failure);
  }
}

let stopping = false;
process.once("SIGTERM", () => (stopping = true));
while (!stopping) {
  const { Messages = [] } = await sqs.receiveMessage({
    QueueUrl,
    MaxNumberOfMessages: 10,
    WaitTimeSeconds: 20,
    VisibilityTimeout: 60, // seconds that a handler may take
    MessageSystemAttributeNames: ["SentTimestamp"],
    MessageAttributeNames: ["All"],
  });
  await Promise.all(Messages.map(work));
}
