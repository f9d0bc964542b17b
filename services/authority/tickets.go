package authority

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// ticketsKept is how long a redeemed ticket is remembered after its end: a clock that is set back does not make it good
// again.
const ticketsKept = 7 * 24 * time.Hour

// maxTicketFile bounds what is read of one file, in bytes.
const maxTicketFile = 4 << 10

// errRedeemed says that another key has had the ticket.
var errRedeemed = errors.New("the ticket has been redeemed with another key")

// tickets is the folder with a file for each redeemed join ticket. Nobody but who has an issuer key can make a ticket, so
// callers cannot make the folder grow. Safe for concurrent use, by several processes too.
type tickets struct{ dir string }

// redeemed is what a file says: which key had the ticket.
type redeemed struct {
	Ticket    string    `json:"ticket"`
	KeySHA256 string    `json:"key_sha256"`
	Redeemed  time.Time `json:"redeemed"`
	NotAfter  time.Time `json:"not_after"`
}

func ticketsIn(dir string) tickets { return tickets{filepath.Join(dir, "tickets")} }

// redeem binds a ticket to the first key that comes; it returns nil for this key whenever it comes, and errRedeemed for
// every other. The file is made whole and under its name in one step that fails if the name is there (link, which is as
// atomic as O_EXCL and shows nobody a half-written file), and is on disk before redeem returns.
func (t tickets) redeem(ticket *x509.Certificate, key crypto.PublicKey) error {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	mine := redeemed{KeySHA256: fmt.Sprintf("%x", sha256.Sum256(spki)), Redeemed: time.Now().UTC(), NotAfter: ticket.NotAfter}
	if len(ticket.URIs) == 1 {
		mine.Ticket = ticket.URIs[0].String()
	}
	path := filepath.Join(t.dir, fmt.Sprintf("%x", ticket.SerialNumber))
	err = t.create(path, mine)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	had, err := readRedeemed(path)
	if err != nil {
		return err
	}
	if had.KeySHA256 != mine.KeySHA256 {
		return errRedeemed
	}
	return nil
}

func (t tickets) create(path string, r redeemed) (err error) {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode ticket: %w", err)
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of redeemed tickets: %w", err)
	}
	f, err := os.CreateTemp(t.dir, ".ticket.*") // mode 0600
	if err != nil {
		return fmt.Errorf("write ticket: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write ticket: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("write ticket: %w", err)
	}
	return syncDir(t.dir)
}

// sweep forgets tickets that ended long ago.
func (t tickets) sweep(now time.Time) error {
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read redeemed tickets: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(t.dir, entry.Name())
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < ticketsKept {
			continue
		}
		if r, err := readRedeemed(path); err == nil && now.Sub(r.NotAfter) < ticketsKept {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("forget redeemed ticket: %w", err))
		}
	}
	return errors.Join(errs...)
}

func readRedeemed(path string) (redeemed, error) {
	data, err := readAtMost(path, maxTicketFile)
	if err != nil {
		return redeemed{}, fmt.Errorf("read redeemed ticket: %w", err)
	}
	var r redeemed
	if err := json.Unmarshal(data, &r); err != nil || r.KeySHA256 == "" {
		return redeemed{}, fmt.Errorf("redeemed ticket %s does not say which key had it: it serves nobody; make a new ticket", path)
	}
	return r, nil
}

// syncDir makes a new name last through a power cut. Windows cannot sync a directory and needs not.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
