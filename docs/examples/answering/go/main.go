// Answers requests of sqs-orchestrator with the AWS SDK alone: go run . orders
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// handle is what the worker is for.
func handle(body []byte) (any, error) {
	var order struct{ ID json.RawMessage }
	if err := json.Unmarshal(body, &order); err != nil {
		return nil, err
	}
	if order.ID == nil {
		return nil, errors.New("an order has an id")
	}
	return map[string]any{"done": order.ID}, nil
}

type worker struct {
	client      *sqs.Client
	queue       string
	beside      string // the URL of the queue without its name
	addressForm *regexp.Regexp
}

func text(value string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
}

func (w *worker) answer(ctx context.Context, message types.Message) error {
	given := func(name string) string {
		return aws.ToString(message.MessageAttributes[name].StringValue)
	}
	sent, _ := strconv.ParseFloat(message.Attributes["SentTimestamp"], 64)
	timeToLive, err := strconv.ParseFloat(given("RequestTimeToLive"), 64)
	if err != nil {
		timeToLive = math.Inf(1)
	}
	if sent+timeToLive < float64(time.Now().UnixMilli()) {
		return nil // nobody waits any more
	}
	address := given("ResponseQueueUrl") // without one, it is a one-way message
	found := w.addressForm.FindStringSubmatch(address)
	if address != "" && found == nil {
		return fmt.Errorf("no reply is sent to %q", address)
	}
	attributes := map[string]types.MessageAttributeValue{}
	result, err := handle([]byte(*message.Body))
	if found == nil {
		return err
	}
	if err != nil {
		log.Printf("message %s failed: %v", *message.MessageId, err)
		code := "handler_error"
		result = map[string]any{"code": code, "type": nil, "message": "", "details": nil}
		attributes["ReplyError"] = text(code)
	}
	body, err := json.Marshal(result)
	if err != nil {
		return err
	}
	// Of the address only the name counts: whoever writes to the queue may have made it up.
	attributes["__AmazonSQSVirtualQueuesClient.QueueName"] = text(found[2])
	_, err = w.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:          aws.String(w.beside + "/" + found[1]),
		MessageBody:       aws.String(string(body)),
		MessageAttributes: attributes,
	})
	return err
}

func (w *worker) work(ctx context.Context, message types.Message) {
	err := w.answer(ctx, message)
	if err == nil {
		_, err = w.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{
			QueueUrl: &w.queue, ReceiptHandle: message.ReceiptHandle,
		})
	}
	if err != nil {
		log.Printf("message %s is left, and comes back: %v", *message.MessageId, err)
	}
}

func main() {
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	client := sqs.NewFromConfig(settings)
	queue, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &os.Args[1]})
	if err != nil {
		log.Fatal(err)
	}
	w := &worker{client: client, queue: *queue.QueueUrl}
	w.beside = w.queue[:strings.LastIndex(w.queue, "/")]
	account := w.beside[strings.LastIndex(w.beside, "/")+1:]
	w.addressForm = regexp.MustCompile(
		`(?s)^[^#]*/` + account + `/(sqs_orchestrator_reply_[0-9a-f]{32})#(.+)$`)

	stopping, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	for stopping.Err() == nil {
		received, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl:                    &w.queue,
			MaxNumberOfMessages:         10,
			WaitTimeSeconds:             20,
			VisibilityTimeout:           60, // seconds that a handler may take
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{"SentTimestamp"},
			MessageAttributeNames:       []string{"All"},
		})
		if err != nil {
			log.Fatal(err)
		}
		var working sync.WaitGroup
		for _, message := range received.Messages {
			working.Add(1)
			go func() {
				defer working.Done()
				w.work(ctx, message)
			}()
		}
		working.Wait()
	}
}
