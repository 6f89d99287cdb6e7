import com.amazonaws.services.sqs.AmazonSQSRequester;
import com.amazonaws.services.sqs.AmazonSQSRequesterClientBuilder;
import com.amazonaws.services.sqs.AmazonSQSResponder;
import com.amazonaws.services.sqs.AmazonSQSResponderClientBuilder;
import com.amazonaws.services.sqs.MessageContent;
import com.amazonaws.services.sqs.Plain;
import com.amazonaws.services.sqs.util.SQSMessageConsumerBuilder;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.MessageAttributeValue;
import software.amazon.awssdk.services.sqs.model.SendMessageRequest;

/**
 * A program that uses AWS's Temporary Queue Client, unmodified, by orders on its standard input.
 *
 * <p>Each order is one line of JSON, and so is each answer; orders are carried out at once, and
 * an answer repeats the order's "id". When the input ends, the program ends at once.
 */
public final class Peer {
    /** Writes ASCII alone, since some characters end a line for some readers. */
    private static final ObjectMapper JSON =
        JsonMapper.builder().enable(JsonWriteFeature.ESCAPE_NON_ASCII).build();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    /** The client keeps it weakly, and so a level that is set. */
    private static final Logger LOGGER = Logger.getLogger("com.amazonaws.services.sqs");

    private final SqsClient sqs;
    private final ExecutorService threads = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });
    private AmazonSQSRequester requester;
    private AmazonSQSResponder responder;

    private Peer(String endpoint) {
        sqs = SqsClient.builder().endpointOverride(URI.create(endpoint)).build();
    }

    private Object carryOut(JsonNode order) throws Exception {
        return switch (order.get("order").asText()) {
            case "requester" -> openRequester(order);
            case "responder" -> openResponder(order);
            case "ask" -> ask(order);
            case "close" -> {
                requester.shutdown();
                yield null;
            }
            default -> throw new IllegalArgumentException(order.toString());
        };
    }

    private Object openRequester(JsonNode order) {
        String prefix = order.get("prefix").asText();
        if (!order.get("virtual").asBoolean()) {
            requester = Plain.requester(sqs, prefix);
            return null;
        }
        requester = AmazonSQSRequesterClientBuilder.standard()
            .withAmazonSQS(sqs)
            .withInternalQueuePrefix(prefix)
            .withQueueHeartbeatInterval(order.get("heartbeat").asLong())
            .withIdleQueueRetentionPeriodSeconds(order.get("retention").asLong())
            .withIdleQueueSweepingPeriod(order.get("sweep").asInt(), TimeUnit.SECONDS)
            .build();
        return null;
    }

    private Object openResponder(JsonNode order) {
        responder = AmazonSQSResponderClientBuilder.standard().withAmazonSQS(sqs).build();
        SQSMessageConsumerBuilder.standard()
            .withAmazonSQS(responder.getAmazonSQS())
            .withQueueUrl(order.get("queue").asText())
            .withPollingThreadCount(4)
            .withConsumer(this::reply)
            .build()
            .start();
        return null;
    }

    /** Answers with what it was asked; as late as the request says. */
    private void reply(Message message) {
        Map<String, MessageAttributeValue> given = new HashMap<>(message.messageAttributes());
        MessageAttributeValue late = given.remove("late");
        if (late != null) {
            try {
                Thread.sleep((long) (Double.parseDouble(late.stringValue()) * 1000));
            } catch (InterruptedException stopped) {
                return;
            }
        }
        given.keySet().removeIf(name -> !name.startsWith("a."));
        var request = MessageContent.fromMessage(message);
        responder.sendResponseMessage(request, new MessageContent(message.body(), given));
    }

    /** Asks all at once, and waits for all. */
    private Object ask(JsonNode order) throws Exception {
        List<CompletableFuture<JsonNode>> asked = new ArrayList<>();
        int timeout = order.get("timeout").asInt();
        for (JsonNode item : order.get("items")) {
            var request = SendMessageRequest.builder()
                .queueUrl(order.get("queue").asText())
                .messageBody(item.get("body").asText())
                .messageAttributes(attributes(item.get("attributes")))
                .build();
            asked.add(CompletableFuture.supplyAsync(() -> ask(request, timeout), threads));
        }
        ArrayNode told = JSON.createArrayNode();
        for (CompletableFuture<JsonNode> each : asked) {
            told.add(each.get());
        }
        return told;
    }

    private JsonNode ask(SendMessageRequest request, int timeout) {
        ObjectNode told = JSON.createObjectNode();
        try {
            Message reply = requester.sendMessageAndGetResponse(request, timeout, TimeUnit.SECONDS);
            told.put("body", reply.body());
            told.set("attributes", told(reply.messageAttributes()));
        } catch (Exception why) {
            // The client wraps what ends the wait.
            Throwable cause = why;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            told.put("error", cause.getClass().getSimpleName());
        }
        return told;
    }

    private static Map<String, MessageAttributeValue> attributes(JsonNode given) {
        Map<String, MessageAttributeValue> made = new HashMap<>();
        given.fields().forEachRemaining(field -> {
            String type = field.getValue().get(0).asText();
            String value = field.getValue().get(1).asText();
            var attribute = MessageAttributeValue.builder().dataType(type);
            if (type.startsWith("Binary")) {
                attribute.binaryValue(SdkBytes.fromByteArray(Base64.getDecoder().decode(value)));
            } else {
                attribute.stringValue(value);
            }
            made.put(field.getKey(), attribute.build());
        });
        return made;
    }

    private static ObjectNode told(Map<String, MessageAttributeValue> attributes) {
        ObjectNode told = JSON.createObjectNode();
        attributes.forEach((name, attribute) -> {
            String value = attribute.binaryValue() == null
                ? attribute.stringValue()
                : Base64.getEncoder().encodeToString(attribute.binaryValue().asByteArray());
            told.putArray(name).add(attribute.dataType()).add(value);
        });
        return told;
    }

    private void answer(String line) {
        try {
            JsonNode order = JSON.readTree(line);
            ObjectNode answer = JSON.createObjectNode();
            answer.put("id", order.get("id").asInt());
            answer.set("answer", JSON.valueToTree(carryOut(order)));
            synchronized (OUT) {
                OUT.println(JSON.writeValueAsString(answer));
            }
        } catch (Throwable why) {
            why.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    public static void main(String[] given) throws IOException {
        LOGGER.setLevel(Level.SEVERE);
        Peer peer = new Peer(given[0]);
        var input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        var lines = new BufferedReader(input);
        for (String line; (line = lines.readLine()) != null; ) {
            String order = line;
            peer.threads.execute(() -> peer.answer(order));
        }
        Runtime.getRuntime().halt(0);
    }
}
