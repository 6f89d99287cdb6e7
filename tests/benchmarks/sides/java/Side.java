import com.amazonaws.services.sqs.AmazonSQSRequester;
import com.amazonaws.services.sqs.AmazonSQSRequesterClientBuilder;
import com.amazonaws.services.sqs.AmazonSQSResponder;
import com.amazonaws.services.sqs.AmazonSQSResponderClientBuilder;
import com.amazonaws.services.sqs.MessageContent;
import com.amazonaws.services.sqs.util.SQSMessageConsumerBuilder;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.LongAdder;
import java.util.logging.Level;
import java.util.logging.Logger;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.core.interceptor.SdkExecutionAttribute;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.SendMessageRequest;

/**
 * One side of AWS's Temporary Queue Client. It takes orders and answers them as side.py does.
 *
 * <p>All is as the client's README shows it, with its own defaults.
 */
abstract class Side {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Logger LOGGER = Logger.getLogger("com.amazonaws.services.sqs");

    final SqsClient sqs;
    final String url;
    private final Map<String, LongAdder> calls = new ConcurrentHashMap<>();

    Side(String endpoint, String queue) {
        sqs = SqsClient.builder()
            .endpointOverride(URI.create(endpoint))
            .overrideConfiguration(settings -> settings.addExecutionInterceptor(new Counting()))
            .build();
        url = sqs.getQueueUrl(request -> request.queueName(queue)).queueUrl();
    }

    abstract void open();

    Map<String, Double> ask(int count, int atATime) throws Exception {
        throw new UnsupportedOperationException("a worker asks nothing");
    }

    private Map<String, Object> mark() {
        var process = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return Map.of("cpu", process.getProcessCpuTime() / 1e9, "calls", calls, "handled", 0);
    }

    /** Counts HTTP requests, repeated ones too. */
    private final class Counting implements ExecutionInterceptor {
        @Override
        public void beforeTransmission(Context.BeforeTransmission call, ExecutionAttributes about) {
            String operation = about.getAttribute(SdkExecutionAttribute.OPERATION_NAME);
            calls.computeIfAbsent(operation, name -> new LongAdder()).increment();
        }
    }

    /** Asks: a thread for each request that waits. */
    private static final class Requester extends Side {
        private static final int PATIENCE = 300;

        private final ExecutorService threads = Executors.newCachedThreadPool();
        private AmazonSQSRequester requester;

        Requester(String endpoint, String queue) {
            super(endpoint, queue);
        }

        @Override
        void open() {
            requester = AmazonSQSRequesterClientBuilder.standard().withAmazonSQS(sqs).build();
        }

        @Override
        Map<String, Double> ask(int count, int atATime) throws Exception {
            long[] latencies = new long[count];
            var next = new AtomicInteger();
            long began = System.nanoTime();
            List<Future<?>> asking = new ArrayList<>();
            for (int i = 0; i < atATime; i++) {
                asking.add(threads.submit(() -> {
                    for (int number; (number = next.getAndIncrement()) < count; ) {
                        latencies[number] = ask(body(number));
                    }
                }));
            }
            for (Future<?> each : asking) {
                each.get();
            }
            return told(began, latencies);
        }

        private long ask(String body) {
            long asked = System.nanoTime();
            var request = SendMessageRequest.builder().queueUrl(url).messageBody(body).build();
            Message reply;
            try {
                reply = requester.sendMessageAndGetResponse(request, PATIENCE, TimeUnit.SECONDS);
            } catch (TimeoutException late) {
                throw new IllegalStateException(late);
            }
            long latency = System.nanoTime() - asked;
            if (!reply.body().equals(body)) {
                throw new IllegalStateException(body + " came back as " + reply.body());
            }
            return latency;
        }
    }

    /** Answers with what it was asked. More than its one polling thread made it no faster. */
    private static final class Worker extends Side {
        private AmazonSQSResponder responder;

        Worker(String endpoint, String queue) {
            super(endpoint, queue);
        }

        @Override
        void open() {
            responder = AmazonSQSResponderClientBuilder.standard().withAmazonSQS(sqs).build();
            SQSMessageConsumerBuilder.standard()
                .withAmazonSQS(responder.getAmazonSQS())
                .withQueueUrl(url)
                .withConsumer(this::reply)
                .build()
                .start();
        }

        private void reply(Message message) {
            var request = MessageContent.fromMessage(message);
            responder.sendResponseMessage(request, new MessageContent(message.body()));
        }
    }

    /** A body of about 100 bytes, as side.py makes it. */
    private static String body(int number) {
        String rest = "\"customer\": \"someone\", \"items\": [\"one\", \"two\", \"three\"]";
        return String.format("%-100s", "{\"id\": " + number + ", " + rest + "}");
    }

    private static Map<String, Double> told(long began, long[] latencies) {
        double seconds = (System.nanoTime() - began) / 1e9;
        Arrays.sort(latencies);
        int count = latencies.length;
        return Map.of(
            "began", began / 1e9,
            "seconds", seconds,
            "median", (latencies[(count - 1) / 2] + latencies[count / 2]) / 2e9,
            "p99", latencies[Math.min(count - 1, (int) (count * 0.99))] / 1e9);
    }

    private Object carryOut(JsonNode order) throws Exception {
        switch (order.get("order").asText()) {
            case "open" -> open();
            case "expect" -> { }
            case "mark" -> {
                return mark();
            }
            case "ask" -> {
                return ask(order.get("count").asInt(), order.get("at_a_time").asInt());
            }
            default -> throw new IllegalArgumentException(order.toString());
        }
        return null;
    }

    private void answer(String line) {
        try {
            System.out.println(JSON.writeValueAsString(carryOut(JSON.readTree(line))));
        } catch (Throwable why) {
            why.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    public static void main(String[] given) throws IOException {
        LOGGER.setLevel(Level.WARNING);
        boolean asks = given[0].equals("requester");
        Side side = asks ? new Requester(given[1], given[2]) : new Worker(given[1], given[2]);
        var orders = Executors.newSingleThreadExecutor();
        var input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        var lines = new BufferedReader(input);
        for (String line; (line = lines.readLine()) != null; ) {
            String order = line;
            orders.execute(() -> side.answer(order));
        }
        // Whatever goes on: leaving in good order would take as long as a poll.
        Runtime.getRuntime().halt(0);
    }
}
