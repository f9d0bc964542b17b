package demo

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/proof"
)

// payment is a transfer of the price out of alice's account that was not made before.
func (t *tour) payment(note string) *ledgerv1.TransferRequest {
	return &ledgerv1.TransferRequest{FromAccount: t.payer, ToAccount: t.shop, Amount: price(), Note: note, RequestId: uuid.NewString()}
}

// anew is a payment like another one, for a command that is to make a transfer of its own: rolecall call finds a request_id.
func anew(pay *ledgerv1.TransferRequest) *ledgerv1.TransferRequest {
	pay = proto.CloneOf(pay)
	pay.RequestId = ""
	return pay
}

// moves makes an attempt one that counts only if the price has moved so many times when it is over, whatever was answered.
func (t *tour) moves(times int64, try func(context.Context) outcome) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		before, err := t.balance(ctx)
		if err != nil {
			return answered(nil, err)
		}
		got := try(ctx)
		after, err := t.balance(ctx)
		if err != nil {
			return answered(nil, err)
		}
		if moved := after - before; moved != times*price().GetMinorUnits() {
			return outcome{code: "another balance", text: fmt.Sprintf("%d cents have moved, not %d times %d, after %s %s %s",
				moved, times, price().GetMinorUnits(), got.code, got.reason, got.text)}
		}
		return got
	}
}

// balance reads what the shop has, past Eve.
func (t *tour) balance(ctx context.Context) (int64, error) {
	response, err := t.people["alice"].ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: t.shop})
	return response.GetBalance().GetMinorUnits(), err
}

// message is a request and a proof that was seen with it.
func message(request proto.Message, proof string) (*rolecallv1.SignedRequest, error) {
	body, err := proto.Marshal(request)
	return &rolecallv1.SignedRequest{Method: transfer, Request: body, Proof: proof}, err
}

// forward sends a message as it is, proof and all, over somebody's connection to the ledger.
func forward(ctx context.Context, conn grpc.ClientConnInterface, signed *rolecallv1.SignedRequest) (*rolecallv1.SignedResponse, outcome) {
	answer, err := proof.Forward(ctx, conn, signed)
	if err != nil {
		return nil, answered(nil, err)
	}
	response := &ledgerv1.TransferResponse{}
	if err := proto.Unmarshal(answer.GetResponse(), response); err != nil {
		return nil, outcome{code: "no answer", text: err.Error()}
	}
	return answer, answered(response, nil)
}

// forwards is forward as an attempt.
func forwards(conn grpc.ClientConnInterface, signed *rolecallv1.SignedRequest) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		_, got := forward(ctx, conn, signed)
		return got
	}
}

// repeated makes an attempt several times. The outcome is that of the last time if all came out the same.
func repeated(try func(context.Context) outcome) func(context.Context) outcome {
	return func(ctx context.Context) (last outcome) {
		for i := range repeats {
			got := try(ctx)
			if i > 0 && (got.code != last.code || got.reason != last.reason) {
				return outcome{code: "another answer", text: fmt.Sprintf("%s %s the %dth time, %s %s before", got.code, got.reason, i+1, last.code, last.reason)}
			}
			last = got
		}
		last.text += fmt.Sprintf(", %d times", repeats)
		return last
	}
}

// sign makes a payment one that others can send.
func (t *tour) sign(p *person, pay *ledgerv1.TransferRequest, opts ...proof.SignOption) (*rolecallv1.SignedRequest, error) {
	id, err := t.serviceID("ledger")
	if err != nil {
		return nil, err
	}
	return p.proofs.Signer().Sign(id, pay, transfer, opts...)
}

// signForOrders makes a payment one that orders can send, and nobody else.
func (t *tour) signForOrders(p *person, pay *ledgerv1.TransferRequest) (*rolecallv1.SignedRequest, error) {
	orders, err := t.serviceID("orders")
	if err != nil {
		return nil, err
	}
	return t.sign(p, pay, proof.Via(orders))
}

// altered is a message with ten times the amount, and the same proof.
func altered(signed *rolecallv1.SignedRequest) (*rolecallv1.SignedRequest, error) {
	request := &ledgerv1.TransferRequest{}
	if err := proto.Unmarshal(signed.GetRequest(), request); err != nil {
		return nil, err
	}
	return message(dearer(request), signed.GetProof())
}

// dearer is ten times a payment.
func dearer(pay *ledgerv1.TransferRequest) *ledgerv1.TransferRequest {
	pay = proto.CloneOf(pay)
	pay.Amount.MinorUnits *= 10
	return pay
}
