package pki

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	recordDir    = "record"
	recordLayout = "2006-01-02.jsonl" // one file for each UTC day
	maxRecordDay = 1 << 30            // bytes; some two million certificates: more in a day is a defect or an attack
)

// Record is what stays of each certificate that was issued: who has it, who asked for it, and from when to when it is
// good. It holds no secret.
type Record struct {
	Serial     string    `json:"serial"`     // hexadecimal, as `openssl x509 -serial` writes it, in lower case
	ID         string    `json:"id"`         // SPIFFE ID of the leaf
	KeySHA256  string    `json:"key_sha256"` // of the leaf's public key (SubjectPublicKeyInfo, DER), hexadecimal
	Requester  string    `json:"requester"`  // SPIFFE ID of who asked; "local" for a process that has the authority's directory
	Issued     time.Time `json:"issued"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	Generation int       `json:"generation"`  // of the issuer that signed
	RootSHA256 string    `json:"root_sha256"` // of the certificate of the issuer's root, hexadecimal
}

// recordLog appends to the record of issued certificates: one line of JSON each, one file (0600) a day. Several processes
// may append to one directory. Safe for concurrent use; callers that come while the disk is busy share the next write.
type recordLog struct {
	dir string

	commit sync.Mutex // one write at a time
	synced string     // the file whose name in the directory is on the disk; under commit
	mu     sync.Mutex
	next   *recordBatch // takes further lines; nil: the next caller starts one; under mu
}

// recordBatch is the lines of callers who wait for the same write. err is set before done is closed.
type recordBatch struct {
	day   time.Time
	lines []byte
	done  chan struct{}
	err   error
}

// openRecord returns the record in an authority's directory. It touches no file: the first append does.
func openRecord(dir string) *recordLog { return &recordLog{dir: filepath.Join(dir, recordDir)} }

// append writes one line and returns once it is on the disk. On an error the line may or may not be there, and the
// certificate that it is about must not leave: a line without a certificate harms nobody, the reverse does.
func (r *recordLog) append(rec Record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	r.mu.Lock()
	batch, first := r.next, r.next == nil
	if first {
		batch = &recordBatch{day: rec.Issued.UTC(), done: make(chan struct{})}
		r.next = batch
	}
	batch.lines = append(append(batch.lines, line...), '\n')
	r.mu.Unlock()
	if first { // whoever starts a batch writes it, for all who joined while the write before it lasted
		r.commit.Lock()
		r.mu.Lock()
		r.next = nil
		r.mu.Unlock()
		batch.err = r.write(batch)
		r.commit.Unlock()
		close(batch.done)
	}
	<-batch.done
	return batch.err
}

// write appends a batch to the file of its day, and syncs it.
func (r *recordLog) write(batch *recordBatch) error {
	path := filepath.Join(r.dir, batch.day.Format(recordLayout))
	f, created, err := r.open(path)
	if err != nil {
		return fmt.Errorf("record: %w; nothing is issued until it can be written", err)
	}
	err = errors.Join(appendLines(f, batch.lines), f.Close())
	if err == nil && (created || r.synced != path) {
		err = errors.Join(syncDir(r.dir), syncDir(filepath.Dir(r.dir)))
	}
	if err != nil {
		return fmt.Errorf("record: write %s: %w; nothing is issued until it can be written", path, err)
	}
	r.synced = path
	return nil
}

func (r *recordLog) open(path string) (f *os.File, created bool, err error) {
	const flags = os.O_APPEND | os.O_RDWR
	if f, err = os.OpenFile(path, flags, 0); !errors.Is(err, fs.ErrNotExist) {
		return f, false, err
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, false, err
	}
	f, err = os.OpenFile(path, flags|os.O_CREATE, 0o600)
	return f, true, err
}

// appendLines writes whole lines at the end of f in one write and syncs it. What a crash or a full disk tore off before
// is closed with a line feed first, so that it spoils no line but its own.
func appendLines(f *os.File, lines []byte) error {
	unlock, err := lockFile(f)
	if err != nil {
		return err
	}
	err = appendLocked(f, lines)
	unlock() // syncing is the long part, and needs no lock
	if err != nil {
		return err
	}
	return f.Sync()
}

func appendLocked(f *os.File, lines []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size+int64(len(lines)) > maxRecordDay {
		return fmt.Errorf("it would grow past %d bytes, which no day of certificates should; see who asks for so many", maxRecordDay)
	}
	if size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	_, err = f.Write(lines)
	return err
}
