package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// logTail is how much of the end of a log is searched: an audit record is a few hundred bytes.
const logTail = 256 << 10

// record is what the tour reads of an audit record.
type record struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason"`
	Detail  string    `json:"detail"`
	Claimed string    `json:"claimed_id"`
	Peer    string    `json:"peer"`
}

// findRecord waits until the log has the record of a refused handshake with this peer, not older than after.
func findRecord(ctx context.Context, log, peer string, after time.Time) (record, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := tail(log)
		if err != nil {
			return record{}, fmt.Errorf("look for the audit record: %w", err)
		}
		for line := range bytes.Lines(data) {
			var r record
			// Not every line of a log is an audit record, and the first may be cut.
			if json.Unmarshal(line, &r) == nil && r.Event == "handshake" && r.Verdict == "denied" && r.Peer == peer && !r.Time.Before(after) {
				return r, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return record{}, fmt.Errorf("%s has no record of the handshake with %s: %w", log, peer, ctx.Err())
		}
	}
}

// tail reads the end of a file.
func tail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-logTail), logTail))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data, err
}
