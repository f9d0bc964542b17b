package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/cli"
)

func (a *app) callCommand() *cobra.Command {
	var flags callFlags
	c := &cobra.Command{
		Use:   "call [SERVICE/METHOD]",
		Short: "Call a method, JSON in and JSON out",
		Long: `Calls a method over mutual TLS. The request is JSON, and so are the answers: indented, or with -o json one on each line. Without
a method it lists those of SERVICE, or all, and what they require.

What a call needs beside the request it gets by itself: methods with requires_proof a signed proof, those with exactly_once a
request_id, which is told so that a repetition can name the same one. --user makes the call on behalf of the user who is
logged in, and --role-subset gives up all other roles for this call.

Calls are made as an operator of the mesh in --dir; where SPIFFE_ENDPOINT_SOCKET names a Workload API, and no --as is given, as
the workload that this program is for it; or with --cert, --key and --bundle. The server is found by its name in the mesh;
elsewhere --server says where it is, and who it must prove to be. Of a method that this program does not know, the server is asked
what it looks like, for which the role rolecall.reflector is needed.

--sign calls nobody: it prints the request, signed, for somebody else to pass on within a minute, as a part of another request:
--signed puts it there, and verifies the receipt that comes back for it. --via names who alone may pass it on. Without it whoever
holds the role may, once; orders takes payments only if they are signed for it.

Ends with 1 if the call fails: standard error then says why and what to do next, with -o json standard output does, as JSON.`,
		Example: `  rolecall call                                    # what there is
  rolecall call ledger                             # the methods of one service
  rolecall call ledger/OpenAccount -d '{"currency": "EUR"}'
  rolecall call ledger/Transfer -d '{"from_account": "A", "to_account": "B", "amount": {"currency": "EUR", "minor_units": 5}}'
  rolecall call ledger/WatchEntries --as bob -d '{"account_id": "A"}'        # until Ctrl-C
  rolecall call ledger/ImportEntries -d @books.jsonl                         # a stream of requests
  rolecall call users/GetSelf --user               # on behalf of who is logged in
  rolecall call ledger/Transfer --sign --via orders -d @transfer.json |
    rolecall call orders/PlaceOrder --as bob --user --signed payment=- -d @order.json
  rolecall call grpc.health.v1.Health/Check --server ledger
  rolecall call billing.v1.BillingService/Charge --server dns:///billing:8443,spiffe://mesh.local/service/billing -d @-`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMethod,
	}
	flags.add(c)
	flags.complete(c)
	output := outputFlag(c, "text", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		run := &callRun{app: a, flags: &flags, json: output.value == "json", timed: c.Flags().Changed("timeout")}
		defer run.close()
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		return run.do(c.Context(), name)
	}
	return c
}

// callRun is one run of the command.
type callRun struct {
	app   *app
	flags *callFlags
	json  bool
	timed bool // a --timeout was given
	who   caller
}

func (r *callRun) close() { r.who.close() }

// do lists, signs or calls.
func (r *callRun) do(ctx context.Context, name string) error {
	services := call.Builtin()
	if service, err := call.FindService(services, name); (name == "" || err == nil) && r.flags.server == "" {
		if err == nil {
			services = []call.Service{service}
		}
		return r.list(services)
	}
	method, err := call.Find(services, name)
	if err != nil && r.flags.server == "" {
		return cli.Usagef("%w; 'rolecall call' lists all, and what a server has beside them is called with --server", err)
	}
	limited, cancel := context.WithTimeout(ctx, r.flags.timeout)
	defer cancel()
	if err := r.who.open(limited, r.flags, method.Server); err != nil {
		return err
	}
	if err != nil {
		if method, err = r.reflect(limited, name); err != nil || method.Descriptor == nil {
			return err
		}
	}
	r.tellUnknownRoles(method)
	if r.flags.sign {
		return r.sign(limited, method)
	}
	if method.Descriptor.IsStreamingServer() && !r.timed {
		return r.call(ctx, method) // it goes on until one side ends it
	}
	return r.call(limited, method)
}

// reflect asks the server for a method. Of the name of a service, and of no name, it lists the methods.
func (r *callRun) reflect(ctx context.Context, name string) (call.Method, error) {
	services, err := call.Reflect(ctx, r.who.conn)
	if err != nil {
		r.say("the server was asked what it serves, by reflection, which takes the role rolecall.reflector:")
		return call.Method{}, r.failed(call.NewReflectionFailure(err))
	}
	if name == "" {
		return call.Method{}, r.list(services)
	}
	if s, err := call.FindService(services, name); err == nil {
		return call.Method{}, r.list([]call.Service{s})
	}
	m, err := call.Find(services, name)
	if err != nil {
		return m, cli.Usagef("the server has no such method either: %w", err)
	}
	return m, nil
}

// call makes the call and writes what comes.
func (r *callRun) call(ctx context.Context, m call.Method) error {
	signed, err := r.flags.readSigned(r.app.input())
	if err != nil {
		return err
	}
	in, err := r.flags.input(m, r.app.input())
	if err != nil {
		return err
	}
	var trace call.Trace
	callCtx, err := r.who.context(ctx, r.flags, m, &trace, r.app.input())
	if err != nil {
		return err
	}
	writer := call.Writer{Types: m.Types, Lines: r.json}
	answers, requestID, stop := 0, "", func() {}
	exchange := call.Exchange{Method: m, Conn: r.who.conn, Prepare: func(request *call.Message) error {
		if err := signed.Put(request); err != nil {
			return err
		}
		id := r.fillRequestID(m, request)
		if !m.Descriptor.IsStreamingClient() && !m.Descriptor.IsStreamingServer() {
			requestID, stop = id, r.waiting(func() string { return r.attempts(&trace) })
		}
		return nil
	}, Receive: func(response *call.Message) error {
		stop()
		answers++
		if err := r.write(writer, response); err != nil {
			return err
		}
		return r.verifyReceipts(ctx, signed, response)
	}}
	began := time.Now()
	err = exchange.Do(callCtx, in)
	stop()
	var wrong *call.InputError
	switch {
	case err == nil, errors.Is(err, cli.ErrReported):
		return err
	case errors.As(err, &wrong):
		return cli.Usagef("%w", err)
	case errors.Is(ctx.Err(), context.Canceled) && m.Descriptor.IsStreamingServer():
		r.say("interrupted after %s; answers: %d", cli.Span(time.Since(began)), answers)
		return nil
	}
	if !trace.Sent() {
		requestID = ""
	}
	return r.failed(call.NewFailure(err, requestID))
}

// verifyReceipts tells what came of the requests that the call passed on for others.
func (r *callRun) verifyReceipts(ctx context.Context, signed call.Signed, response *call.Message) error {
	answers, err := signed.Answers(response)
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if err := r.who.client.VerifyReceipt(ctx, answer); err != nil {
			r.say("%s: the receipt does not hold, so do not rely on this answer: %v", answer.Field, err)
			return cli.ErrReported
		}
		r.say("%s: the receipt holds: the server that this request was signed for has given this answer to it", answer.Field)
		delete(signed, answer.Field)
	}
	for field := range signed {
		r.say("%s: no answer with a receipt came for it; the answer above says what became of it. A proof lives for a minute at most: sign again for another attempt", field)
	}
	return nil
}

// sign prints the request signed, for somebody else to pass on.
func (r *callRun) sign(ctx context.Context, m call.Method) error {
	if m.Descriptor.IsStreamingClient() || m.Descriptor.IsStreamingServer() {
		return cli.Usagef("%s is a stream, and what is passed on is one request with one answer", m.Short())
	}
	if !m.Requires.Proof {
		return cli.Usagef("%s takes no signed requests (requires_proof), so nobody could pass one on", m.Short())
	}
	via, err := r.who.relay(r.flags)
	if err != nil {
		return err
	}
	in, err := r.flags.input(m, r.app.input())
	if err != nil {
		return err
	}
	request, err := in.Only()
	if err != nil {
		return cli.Usagef("%w", err)
	}
	r.fillRequestID(m, request)
	stop := r.waiting(func() string {
		return "waiting for the key server to know the key that the request is signed with; is it up? rolecall status tells"
	})
	signed, err := r.who.client.Sign(ctx, m, r.who.server.ID, via, request, r.flags.roles)
	stop()
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	if err != nil {
		return err
	}
	if via.IsZero() {
		r.say("whoever gets hold of it and holds the role may pass it on: --via names the only one who may")
	}
	text, err := call.Writer{Types: m.Types, Lines: r.json}.Write(signed)
	if err == nil {
		_, err = io.WriteString(r.app.out, text)
	}
	return err
}
