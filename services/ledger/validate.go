package ledger

import (
	"cmp"
	"errors"
	"math"
	"strconv"
	"strings"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/field"
)

// maxNote is how many characters the note of a transfer has at most.
const maxNote = 200

// movementRequest is a TransferRequest or an ImportEntriesRequest.
type movementRequest interface {
	GetFromAccount() string
	GetToAccount() string
	GetAmount() *ledgerv1.Money
	GetNote() string
}

// newMovement checks a request to move money; prefix goes before the names of its fields.
func newMovement(prefix string, req movementRequest) (movement, error) {
	m := movement{
		from: req.GetFromAccount(), to: req.GetToAccount(),
		currency: req.GetAmount().GetCurrency(), minorUnits: req.GetAmount().GetMinorUnits(),
		note: req.GetNote(),
	}
	var same error
	if m.from == m.to {
		same = interceptors.InvalidField(prefix+"to_account", "must be another account than from_account")
	}
	if err := cmp.Or(
		field.ID(prefix+"from_account", m.from),
		field.ID(prefix+"to_account", m.to),
		same,
		field.Currency(prefix+"amount.currency", m.currency),
		field.Amount(prefix+"amount.minor_units", m.minorUnits),
		field.Text(prefix+"note", m.note, 0, maxNote),
	); err != nil {
		return movement{}, err
	}
	return m, nil
}

// entryID names an entry: its account and its number there. Callers take it as opaque.
func entryID(account string, number int64) string { return account + "." + formatNumber(number) }

// parseAfter reads the after_entry_id of an account: 0 if it is empty.
func parseAfter(a account, entry string) (int64, error) {
	if entry == "" {
		return 0, nil
	}
	number, ok := strings.CutPrefix(entry, a.id+".")
	n, err := parseNumber(number)
	if !ok || err != nil || n > a.entries {
		return 0, interceptors.InvalidField("after_entry_id", "must be the entry_id of an entry of this account, or empty")
	}
	return n, nil
}

func formatNumber(n int64) string { return strconv.FormatInt(n, 10) }

var errNumber = errors.New("not the number of an entry")

// parseNumber reads what formatNumber wrote, and nothing else: no sign, no leading zero, not zero.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n == math.MaxInt64 || formatNumber(n) != s {
		return 0, errNumber
	}
	return n, nil
}
