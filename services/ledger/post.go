package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/rolecall/internal/store"
)

// What the books refuse. The texts are for the caller.
var (
	errNoAccount  = errors.New("there is no such account")
	errNoTransfer = errors.New("there is no such transfer")
	errNotOwner   = errors.New("the paying account belongs to somebody else than the caller, or the user on whose behalf the call is made, or the signer of a request that is passed on")
	errMade       = errors.New("a request with this request_id has made its transfer long ago: read it with GetTransfer")
	errBelowZero  = errors.New("the paying account would go below zero")
	errCurrency   = errors.New("the currency of the amount is not that of both accounts")
	errOverflow   = errors.New("the balance would become larger than can be kept")
)

func noAccount(id string) error { return fmt.Errorf("%w: %s", errNoAccount, id) }

// post makes all of the transfers or none, in one transaction, that of the request if it has one, and returns them with the
// number of entries that each of their accounts has now, or would have, beside an error. The error of one among several says
// which, counted from 1.
func (b books) post(ctx context.Context, by payer, moves []movement, now time.Time) (made []transfer, counts map[string]int64, err error) {
	err = b.db.Within(ctx, func(tx *store.Tx) error {
		accounts, err := lock(tx, moves)
		if err != nil {
			return err
		}
		p := posting{accounts: accounts, by: by, now: now}
		for i, m := range moves {
			if err := p.add(m); err != nil {
				if len(moves) > 1 {
					return fmt.Errorf("transfer %d of %d: %w", i+1, len(moves), err)
				}
				return err
			}
		}
		made, counts = p.made, make(map[string]int64, len(accounts))
		for id, a := range accounts {
			counts[id] = a.entries
		}
		return p.write(tx)
	})
	return made, counts, err
}

// lockBatch is how many accounts are locked by one statement.
const lockBatch = 250

// lock reads the accounts of the movements and keeps others from changing them until the transaction ends. It goes through
// them in the order of their IDs, so that two transactions never wait for each other.
func lock(tx *store.Tx, moves []movement) (map[string]*account, error) {
	ids := make([]string, 0, 2*len(moves))
	for _, m := range moves {
		ids = append(ids, m.from, m.to)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	accounts := make(map[string]*account, len(ids))
	for batch := range slices.Chunk(ids, lockBatch) {
		if err := lockSome(tx, batch, accounts); err != nil {
			return nil, err
		}
	}
	return accounts, nil
}

func lockSome(tx *store.Tx, ids []string, into map[string]*account) error {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	rows, err := tx.Query("SELECT "+accountColumns+" FROM accounts WHERE account_id IN ("+store.Placeholders(1, len(ids))+
		") ORDER BY account_id"+tx.ForUpdate(), args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		a, err := scanAccount(rows)
		if err != nil {
			return err
		}
		into[a.id] = &a
	}
	return rows.Err()
}

// posting collects what a transaction is going to write, while the accounts it holds are locked.
type posting struct {
	accounts map[string]*account
	by       payer
	now      time.Time

	made    []transfer
	entries []entry
}

// add checks a movement against the accounts as the movements before it have left them.
func (p *posting) add(m movement) error {
	from, to := p.accounts[m.from], p.accounts[m.to]
	switch {
	case from == nil:
		return noAccount(m.from)
	case to == nil:
		return noAccount(m.to)
	case !p.by.owns(from) && !p.by.any:
		return errNotOwner
	case from.currency != m.currency || to.currency != m.currency:
		return errCurrency
	case from.balance < math.MinInt64+m.minorUnits || to.balance > math.MaxInt64-m.minorUnits:
		return errOverflow
	case from.balance < m.minorUnits && !from.allowNegative:
		return errBelowZero
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	t := transfer{movement: m, id: id.String(), caller: p.by.workload, signer: p.by.signer, onBehalfOf: p.by.user, created: p.now}
	p.made = append(p.made, t)
	p.enter(from, t, -m.minorUnits)
	p.enter(to, t, m.minorUnits)
	return nil
}

func (p *posting) enter(a *account, t transfer, minorUnits int64) {
	a.balance += minorUnits
	a.entries++
	p.entries = append(p.entries, entry{
		account: a.id, number: a.entries, transfer: t.id, minorUnits: minorUnits, balance: a.balance, created: t.created,
	})
}

// writeTransfers writes the transfers, unless the request of one has made another: its outcome has expired since.
func (p *posting) writeTransfers(tx *store.Tx) error {
	const columns = transferColumns + ", request_id"
	var rows [][]any
	for _, t := range p.made {
		row := []any{t.id, t.from, t.to, t.currency, t.minorUnits, t.note, t.caller, t.signer, t.onBehalfOf, store.Micros(t.created)}
		if t.request == "" {
			rows = append(rows, append(row, nil))
			continue
		}
		row = append(row, t.request)
		n, err := tx.Exec("INSERT INTO transfers ("+columns+") VALUES ("+store.Placeholders(1, len(row))+") ON CONFLICT DO NOTHING", row...)
		if err != nil {
			return err
		}
		if n == 0 {
			return errMade
		}
	}
	return tx.Insert("transfers ("+columns+")", rows)
}

// write writes transfers, entries and the new balances.
func (p *posting) write(tx *store.Tx) error {
	if err := p.writeTransfers(tx); err != nil {
		return err
	}
	entries := make([][]any, len(p.entries))
	for i, e := range p.entries {
		entries[i] = []any{e.account, e.number, e.transfer, e.minorUnits, e.balance, store.Micros(e.created)}
	}
	if err := tx.Insert("entries ("+entryColumns+")", entries); err != nil {
		return err
	}
	for _, a := range p.accounts {
		if _, err := tx.Exec("UPDATE accounts SET balance = $1, entries = $2 WHERE account_id = $3", a.balance, a.entries, a.id); err != nil {
			return err
		}
	}
	return nil
}
