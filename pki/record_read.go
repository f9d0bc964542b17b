package pki

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxRecordLine bounds one line of the record, in bytes: a SPIFFE ID has 2,048 at most.
const maxRecordLine = 16 << 10

// LiveRecords returns the records of all certificates that have not expired at now, in the order of their files' days and
// of their lines. It reads only the days that can still matter: a leaf lives a sixth of its issuer's life at most. A line
// that a crash tore off is passed over, since its certificate never left; a line that is damaged in another way is an
// error that names it, since its certificate may be alive.
func (s *Issuers) LiveRecords(now time.Time) ([]Record, error) {
	dir := filepath.Join(s.dir, recordDir)
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read record: %w", err)
	}
	oldest := now.Add(-longestLeaf(s.state.Load().issuers) - 24*time.Hour)
	var live []Record
	for _, file := range files {
		day, err := time.Parse(recordLayout, file.Name())
		if err != nil || day.Before(oldest.Add(-24*time.Hour)) { // a day more: a batch may reach into the next one
			continue
		}
		err = readRecordFile(filepath.Join(dir, file.Name()), func(rec Record) {
			if now.Before(rec.NotAfter) {
				live = append(live, rec)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("read record: %w", err)
		}
	}
	return live, nil
}

// longestLeaf is the longest life that a leaf under one of the issuers can have.
func longestLeaf(issuers []*Issuer) time.Duration {
	longest := DefaultLeafLife
	for _, i := range issuers {
		longest = max(longest, i.span()/leavesPerIssuer)
	}
	return longest
}

func readRecordFile(path string, each func(Record)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := readRecords(f, each); err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	return nil
}

// readRecords calls each for every record in r. Its error names the line.
func readRecords(r io.Reader, each func(Record)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxRecordLine)
	lines.Split(splitRecords)
	n := 1
	for lines.Scan() {
		rec, whole, err := parseRecord(bytes.TrimSuffix(lines.Bytes(), []byte("\n")))
		if err != nil {
			return fmt.Errorf("line %d: %w; a certificate that it stood for may still be alive: mend the line, or remove it once that one must have expired", n, err)
		}
		if whole {
			each(rec)
		}
		if bytes.HasSuffix(lines.Bytes(), []byte("\n")) {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n, err)
	}
	return nil
}

// splitRecords is a bufio.SplitFunc for lines, with their line feeds. What zero bytes cut off is a token of its own, and
// they are dropped: a power cut may leave any number of them in place of what was written last.
func splitRecords(data []byte, atEOF bool) (advance int, line []byte, err error) {
	end := bytes.IndexAny(data, "\n\x00")
	switch {
	case end < 0 && !atEOF, len(data) == 0:
		return 0, nil, nil
	case end < 0:
		return len(data), data, nil
	case data[end] == '\n':
		return end + 1, data[:end+1], nil
	}
	rest := bytes.TrimLeft(data[end:], "\x00")
	return len(data) - len(rest), data[:end], nil
}

// parseRecord reads one line. An empty one, or one that ends too early, is no record and no error.
func parseRecord(line []byte) (rec Record, whole bool, err error) {
	in := json.NewDecoder(bytes.NewReader(line))
	switch err := in.Decode(&rec); {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return Record{}, false, nil
	case err != nil:
		return Record{}, false, fmt.Errorf("is no record: %w", err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return Record{}, false, errors.New("holds more than a record")
	}
	if rec.Serial == "" || rec.ID == "" || rec.NotAfter.IsZero() {
		return Record{}, false, errors.New("is no record: a serial number, an ID and an end are needed")
	}
	return rec, true, nil
}
