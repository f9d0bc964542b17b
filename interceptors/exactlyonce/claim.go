package exactlyonce

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/nonces"
)

// request is a call that is to take effect once.
type request struct {
	key     Key
	sum     [sha256.Size]byte
	payload [sha256.Size]byte
	message proto.Message
	proof   *feature.Proof
}

// answer is what Do returns.
type answer struct {
	response []byte
	verdict  feature.Verdict
	detail   string
	err      error

	retry    time.Duration // if above zero, err is of this package, and asks for the same request again
	repeated bool          // it is what was stored before
}

// refusal is an answer of the package's own, for which the transaction is undone.
type refusal struct{ answer }

func (r *refusal) Error() string { return fmt.Sprintf("refused (%d): %s", r.verdict, r.detail) }

func refuse(verdict feature.Verdict, detail string) error {
	return &refusal{answer{verdict: verdict, detail: detail}}
}

// claim holds the request for the transaction, burns its proof, and looks what is stored: nil for nothing, and then the
// request may run. What is stored answers the request, and the proof stays burned.
func (r *Requests) claim(ctx context.Context, t *transaction, q *request) (*answer, error) {
	got, err := t.lock(ctx, q.sum)
	if err != nil {
		return nil, err
	}
	if !got {
		return nil, refuse(feature.InProgress, "another call with this request_id runs")
	}
	if q.proof != nil {
		// It was good when the call came, and has waited for the database since.
		if !r.now().Before(q.proof.Expires) {
			return nil, refuse(feature.Expired, "the proof has expired while the call waited for the database")
		}
		nonce := nonces.Nonce{Signer: q.proof.Signer.String(), Value: q.proof.Nonce, Expires: q.proof.Expires}
		switch result, err := nonces.Burn(ctx, t.tx, nonce); {
		case err != nil:
			return nil, err
		case result == nonces.Expired:
			return nil, refuse(feature.Expired, "the proof is as old as nonces that were pruned")
		case result != nonces.Burned:
			return nil, refuse(feature.Replayed, "the proof was used before")
		}
	}
	found, err := t.find(ctx, q.sum)
	if err != nil {
		return nil, err
	}
	switch {
	case found == nil:
		return nil, r.rows.room(ctx, t, q.key, 1)
	case len(found.payload) != 0 && !bytes.Equal(found.payload, q.payload[:]):
		return &answer{verdict: feature.Reused, detail: "the request_id was used before, with another payload"}, nil
	case found.state == running:
		return &answer{verdict: feature.InProgress, detail: "the request has begun and is not finished"}, nil
	}
	stored, err := found.read()
	if err != nil {
		return nil, err
	}
	a := stored.answer()
	a.repeated = true
	return &a, nil
}

// newRow is the row of a request from now on.
func (r *Requests) newRow(q *request, state string, outcome []byte) *row {
	now := r.now()
	return &row{Key: q.key, sum: q.sum[:], payload: q.payload[:], state: state, outcome: outcome, created: now, stored: now}
}

// store stores a row until it has been kept for long enough.
func (r *Requests) store(ctx context.Context, t *transaction, new *row) error {
	if err := t.insert(ctx, new, new.stored.Add(r.config.Keep)); err != nil {
		return err
	}
	t.after = append(t.after, func(error) { r.rows.add(new.Key, 1) })
	return nil
}
