package demo

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/cli"
)

// tapPort is where the commands of the tour put a relay.
const tapPort = "7999"

// line is a client of the ledger whose bytes go through Eve's hands.
type line struct {
	*relay
	tries
	conn   *grpc.ClientConn
	ledger ledgerv1.LedgerServiceClient
}

// tapped makes one for somebody. It must be closed.
func (t *tour) tapped(ctx context.Context, p *person) (*line, error) {
	r, err := newRelay(ctx, t.ledger.Address)
	if err != nil {
		return nil, err
	}
	l := &line{relay: r, tries: tries{method: transfer}}
	if l.conn, err = t.client(p, "ledger", r.address(), l.option()); err != nil {
		r.close()
		return nil, err
	}
	l.ledger = ledgerv1.NewLedgerServiceClient(l.conn)
	return l, nil
}

func (l *line) close() {
	_ = l.conn.Close()
	l.relay.close()
}

// payFunction defines a function of the shell that pays by way of Eve, for payCommand.
func (t *tour) payFunction() string {
	pay := t.payment("NOTE")
	pay.RequestId = "ID"
	call := t.call("alice", transfer, pay, "--server", "localhost:"+tapPort+","+t.ledger.ID)
	return `pay() { note=$1 id=$2; shift 2; ` + strings.NewReplacer("NOTE", `'"$note"'`, "ID", `'"$id"'`).Replace(call) + ` "$@"; }`
}

// payCommand returns a payment of alice's by way of Eve.
func payCommand(pay *ledgerv1.TransferRequest, flags ...string) string {
	return cli.Quote(append([]string{"pay", pay.GetNote(), pay.GetRequestId()}, flags...)...)
}

// ready makes a call that changes nothing.
func (t *tour) ready(ctx context.Context, l *line) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := l.ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: t.shop})
	return err
}

// again is about a call that the client makes a second time by itself, without asking: the outcome is that of the first try,
// and notes how it went on. A call that failed in the end is one that went otherwise.
func (l *line) again(try func(context.Context) outcome) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		l.take()
		last := try(ctx)
		ended := l.take()
		if last.code != ok.code || len(ended) < 2 {
			last.code = fmt.Sprintf("%s, %d times tried", last.code, len(ended))
			return last
		}
		first := answered(nil, ended[0])
		first.noted = fmt.Sprintf("alice's client made the call again by itself, with a fresh proof and the same request_id: %s.", last.code)
		return first
	}
}
