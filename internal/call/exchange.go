package call

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Exchange is one call of a method. All fields are needed.
type Exchange struct {
	Method Method
	Conn   grpc.ClientConnInterface
	// Prepare completes each request before it is sent.
	Prepare func(*Message) error
	// Receive takes each response.
	Receive func(*Message) error
}

// Do makes the call. The error is an *InputError, one of Prepare or Receive, or the status that the call ended with.
func (e *Exchange) Do(ctx context.Context, in *Input) error {
	d := e.Method.Descriptor
	if d.IsStreamingClient() {
		return e.stream(ctx, in)
	}
	request, err := in.Only()
	if err != nil {
		return err
	}
	if err := e.Prepare(request); err != nil {
		return err
	}
	if d.IsStreamingServer() {
		return e.follow(ctx, request)
	}
	response := dynamicpb.NewMessage(d.Output())
	if err := e.Conn.Invoke(ctx, e.Method.Full(), request, response); err != nil {
		return err
	}
	return e.Receive(response)
}

// follow sends one request and takes what comes.
func (e *Exchange) follow(ctx context.Context, request *Message) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := e.open(ctx)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg tells why
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return e.responses(stream)
}

// stream sends the requests as they come, and takes what comes back.
func (e *Exchange) stream(ctx context.Context, in *Input) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := in.Next() // before the stream is opened: what is no request opens none
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	stream, err := e.open(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		err := e.send(stream, first, in)
		if err != nil {
			cancel() // frees RecvMsg
		}
		sent <- err
	}()
	received := e.responses(stream)
	select {
	case err := <-sent:
		if err != nil {
			return err
		}
	default: // the server had enough, or Ctrl-C: whoever waits for input is not waited for
	}
	return received
}

func (e *Exchange) send(stream grpc.ClientStream, message *Message, in *Input) error {
	for message != nil {
		if err := e.Prepare(message); err != nil {
			return err
		}
		if err := stream.SendMsg(message); errors.Is(err, io.EOF) {
			return nil // the server had enough, and RecvMsg tells why
		} else if err != nil {
			return err
		}
		var err error
		if message, err = in.Next(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return stream.CloseSend()
}

func (e *Exchange) open(ctx context.Context) (grpc.ClientStream, error) {
	d := e.Method.Descriptor
	desc := &grpc.StreamDesc{StreamName: string(d.Name()), ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}
	return e.Conn.NewStream(ctx, desc, e.Method.Full())
}

// responses takes what comes until the server ends it.
func (e *Exchange) responses(stream grpc.ClientStream) error {
	for {
		response := dynamicpb.NewMessage(e.Method.Descriptor.Output())
		err := stream.RecvMsg(response)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.Receive(response); err != nil {
			return err
		}
		if !e.Method.Descriptor.IsStreamingServer() {
			return nil // gRPC has read the end of the stream with the one response
		}
	}
}
