package com.amazonaws.services.sqs;

import java.util.Map;
import software.amazon.awssdk.services.sqs.SqsClient;

/** A requester with a queue of SQS for each request: the client's own class for it is not public. */
public final class Plain {
    private Plain() {}

    public static AmazonSQSRequester requester(SqsClient sqs, String prefix) {
        return new AmazonSQSRequesterClient(sqs, prefix, Map.of());
    }
}
