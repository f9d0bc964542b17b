package ledger_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/node/nodetest"
)

func TestBadRequestsNameTheirField(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	change := func(f func(*ledgerv1.TransferRequest)) func() error {
		return func() error {
			req := transfer("a", "b", 1)
			f(req)
			_, err := b.alice.Transfer(nodetest.Context(t), req)
			return err
		}
	}
	open := func(owner, currency string) func() error {
		return func() error {
			_, err := b.alice.OpenAccount(nodetest.Context(t), &ledgerv1.OpenAccountRequest{Owner: owner, Currency: currency})
			return err
		}
	}
	account, another := b.open(t, "/service/orders", 5), b.open(t, "/service/orders", 5)
	firstOfAnother := b.entries(t, another, 0)[0].GetEntryId()
	watch := func(after string) func() error {
		return func() error {
			stream, err := b.alice.WatchEntries(nodetest.Context(t), &ledgerv1.WatchEntriesRequest{AccountId: account, AfterEntryId: after})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
	}
	list := func(token string) func() error {
		return func() error {
			_, err := b.alice.ListEntries(nodetest.Context(t), &ledgerv1.ListEntriesRequest{AccountId: account, PageToken: token})
			return err
		}
	}
	b.fill(t, account, 3)
	b.fill(t, another, 3)
	page, err := b.alice.ListEntries(nodetest.Context(t), &ledgerv1.ListEntriesRequest{AccountId: another, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		call  func() error
		field string
	}{
		"no paying account":                {change(func(r *ledgerv1.TransferRequest) { r.FromAccount = "" }), "from_account"},
		"a paying account with a quote":    {change(func(r *ledgerv1.TransferRequest) { r.FromAccount = "a'b" }), "from_account"},
		"a receiving account of 65":        {change(func(r *ledgerv1.TransferRequest) { r.ToAccount = strings.Repeat("a", 65) }), "to_account"},
		"the same account on both sides":   {change(func(r *ledgerv1.TransferRequest) { r.ToAccount = "a" }), "to_account"},
		"no amount":                        {change(func(r *ledgerv1.TransferRequest) { r.Amount = nil }), "amount.currency"},
		"an amount of zero":                {change(func(r *ledgerv1.TransferRequest) { r.Amount.MinorUnits = 0 }), "amount.minor_units"},
		"a negative amount":                {change(func(r *ledgerv1.TransferRequest) { r.Amount.MinorUnits = -5 }), "amount.minor_units"},
		"the smallest integer":             {change(func(r *ledgerv1.TransferRequest) { r.Amount.MinorUnits = math.MinInt64 }), "amount.minor_units"},
		"a currency in lower case":         {change(func(r *ledgerv1.TransferRequest) { r.Amount.Currency = "eur" }), "amount.currency"},
		"a note of 201":                    {change(func(r *ledgerv1.TransferRequest) { r.Note = strings.Repeat("x", 201) }), "note"},
		"a note with a NUL":                {change(func(r *ledgerv1.TransferRequest) { r.Note = "\x00" }), "note"},
		"an account without a currency":    {open("", ""), "currency"},
		"an owner that is no SPIFFE ID":    {open("alice", "EUR"), "owner"},
		"an owner without a path":          {open("spiffe://mesh.local", "EUR"), "owner"},
		"a watch after an entry made up":   {watch("17"), "after_entry_id"},
		"a watch after a foreign entry":    {watch(firstOfAnother), "after_entry_id"},
		"a watch after a future entry":     {watch(account + ".99"), "after_entry_id"},
		"a watch after entry 01":           {watch(account + ".01"), "after_entry_id"},
		"a page token of another account":  {list(page.GetNextPageToken()), "page_token"},
		"a page token with a letter added": {list(page.GetNextPageToken() + "A"), "page_token"},
	} {
		t.Run(name, func(t *testing.T) { wantInvalid(t, tc.call(), tc.field) })
	}
}

// fill makes n more entries of 1 in an account.
func (b *books) fill(t *testing.T, account string, n int) {
	t.Helper()
	source := b.source(t)
	for range n {
		if _, err := b.alice.Transfer(nodetest.Context(t), transfer(source, account, 1)); err != nil {
			t.Fatalf("fill: %v", err)
		}
	}
}

func TestPagesHoldEveryEntryOnceInOrder(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		account := b.open(t, "/service/orders", 0)
		const n = 23
		b.fill(t, account, n)
		all := b.entries(t, account, 1000)
		var balances []int64
		for _, e := range all {
			balances = append(balances, e.GetBalance().GetMinorUnits())
		}
		if len(all) != n || !slices.IsSorted(balances) {
			t.Errorf("got %d entries with balances %v, want %d that grow", len(all), balances, n)
		}
		for _, size := range []int32{1, 7, n, n + 1} {
			if diff := cmp.Diff(all, b.entries(t, account, size), protocmp.Transform()); diff != "" {
				t.Errorf("pages of %d (-one page +pages):\n%s", size, diff)
			}
		}
	})
}
