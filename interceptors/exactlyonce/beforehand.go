package exactlyonce

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// preparation is what a handler wanted done outside of its transaction.
type preparation struct {
	run   func(context.Context) // nil until a handler has asked for it
	done  bool
	value any
	err   error
}

var errPrepare = errors.New("the handler runs again, after what it asked for by exactlyonce.Beforehand")

// Beforehand has slow work, such as the hash of a password, done outside of the open transaction, which would hold up others:
//
//  1. When the handler first comes here, Beforehand returns an error. The handler returns that, and its transaction is undone.
//  2. f runs, outside of any transaction.
//  3. The handler runs again from its start, and gets what f returned.
//
// So f runs only for requests that are new and came this far. A handler may ask for one such work, and gets an error if it asks
// for a second. Without an open transaction f runs at once.
func Beforehand[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	t := transactionOf(ctx)
	if t == nil || t.earlier == nil {
		return f(ctx)
	}
	var none T
	if t.asked {
		return none, status.Error(codes.Internal, "exactlyonce.Beforehand was asked for twice in one handler: do both in one function")
	}
	t.asked = true
	p := t.earlier
	if !p.done {
		p.run = func(ctx context.Context) { p.value, p.err = f(ctx) }
		return none, errPrepare
	}
	value, _ := p.value.(T)
	return value, p.err
}

// wanted tells whether the attempt that has ended waits for the work.
func (p *preparation) wanted() bool { return p.run != nil && !p.done }
