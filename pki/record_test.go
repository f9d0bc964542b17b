package pki

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recordedAt returns a record of a certificate that ends an hour after issued.
func recordedAt(serial string, issued time.Time) Record {
	return Record{Serial: serial, ID: "spiffe://mesh.local/service/ledger", KeySHA256: strings.Repeat("ab", 32), Requester: "local",
		Issued: issued, NotBefore: issued.Add(-30 * time.Second), NotAfter: issued.Add(time.Hour), Generation: 3, RootSHA256: strings.Repeat("cd", 32)}
}

// serials reads a file of the record.
func serials(t *testing.T, path string) []string {
	t.Helper()
	var found []string
	must(t, readRecordFile(path, func(rec Record) { found = append(found, rec.Serial) }))
	return found
}

var recordDay = time.Date(2031, 5, 3, 10, 0, 0, 0, time.UTC)

func TestARecordIsOnDiskWhenAppendReturns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := openRecord(dir)
	must(t, record.append(recordedAt("01", recordDay)))
	must(t, record.append(recordedAt("02", recordDay.Add(14*time.Hour))))
	path := filepath.Join(dir, "record", "2031-05-03.jsonl")
	data, err := os.ReadFile(path)
	must(t, err)
	want := `{"serial":"01","id":"spiffe://mesh.local/service/ledger","key_sha256":"` + strings.Repeat("ab", 32) + `","requester":"local",` +
		`"issued":"2031-05-03T10:00:00Z","not_before":"2031-05-03T09:59:30Z","not_after":"2031-05-03T11:00:00Z","generation":3,"root_sha256":"` +
		strings.Repeat("cd", 32) + "\"}\n"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("the file of the day (-want +got):\n%s", diff)
	}
	if got := serials(t, filepath.Join(dir, "record", "2031-05-04.jsonl")); len(got) != 1 || got[0] != "02" {
		t.Errorf("the file of the next day (UTC) holds %q, want 02", got)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for name, want := range map[string]fs.FileMode{filepath.Dir(path): 0o700, path: 0o600} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

func TestManyCallersOfTwoProcessesRecordEachLineOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	logs := []*recordLog{openRecord(dir), openRecord(dir)} // locks of files hold between openings as between processes
	const callers, each = 40, 20
	began := time.Now()
	var running sync.WaitGroup
	errs := make(chan error, callers*each)
	for caller := range callers {
		running.Go(func() {
			for n := range each {
				if err := logs[caller%2].append(recordedAt(fmt.Sprintf("%02d.%02d", caller, n), recordDay)); err != nil {
					errs <- err
				}
			}
		})
	}
	running.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	took := time.Since(began)
	t.Logf("%d records by %d callers in %s, %s each", callers*each, callers, took.Round(time.Millisecond), (took / (callers * each)).Round(time.Microsecond))
	seen := map[string]int{}
	for _, serial := range serials(t, filepath.Join(dir, "record", "2031-05-03.jsonl")) {
		seen[serial]++
	}
	for caller := range callers {
		for n := range each {
			if serial := fmt.Sprintf("%02d.%02d", caller, n); seen[serial] != 1 {
				t.Errorf("record %s is there %d times, want once", serial, seen[serial])
			}
		}
	}
}

func TestATornLineSpoilsNoOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		attack, torn string
	}{
		{"a line that a crash cut off", `{"serial":"02","id":"spiffe://me`},
		{"a line that lacks only its end", `{"serial":"02","id":"spiffe://mesh.local/a","not_after":"2031-05-03T11:00:00Z"`},
		{"zero bytes that a power cut left", `{"serial":"02"` + strings.Repeat("\x00", 300)},
		{"nothing but zero bytes", strings.Repeat("\x00", 300)},
		{"as many zero bytes as one line may have", strings.Repeat("\x00", maxRecordLine)},
		{"zero bytes in place of the lines of many callers", `{"serial":"02"` + strings.Repeat("\x00", 5*maxRecordLine)},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, openRecord(dir).append(recordedAt("01", recordDay)))
			path := filepath.Join(dir, "record", "2031-05-03.jsonl")
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString(c.torn)
			must(t, errors.Join(err, f.Close()))
			if got := serials(t, path); len(got) != 1 {
				t.Errorf("with the torn line at the end: records %q, want 01", got)
			}
			must(t, openRecord(dir).append(recordedAt("03", recordDay)))
			if diff := cmp.Diff([]string{"01", "03"}, serials(t, path)); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAttacksOnTheRecord(t *testing.T) {
	t.Parallel()
	good := `{"serial":"01","id":"spiffe://mesh.local/a","not_after":"2031-05-03T11:00:00Z"}` + "\n"
	for _, c := range []struct {
		attack, data, want string
	}{
		{"a line that is no JSON", good + "removed by eve\n" + good, "line 2: is no record"},
		{"a line behind zero bytes that is no JSON", good + strings.Repeat("\x00", 50<<10) + good + "removed by eve\n", "line 3: is no record"},
		{"zero bytes within a record", strings.Replace(good, "serial", "ser\x00ial", 1), "line 1: is no record"},
		{"two records in one line", strings.Repeat(strings.TrimSpace(good), 2) + "\n", "line 1: holds more than a record"},
		{"a record without an end", `{"serial":"01","id":"spiffe://mesh.local/a"}` + "\n", "line 1: is no record"},
		{"a line of 1 MB", good + strings.Repeat("x", 1<<20), "line 2: "},
		{"a date that is none", strings.Replace(good, "2031-05-03T", "today ", 1), "line 1: is no record"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			err := readRecords(strings.NewReader(c.data), func(Record) {})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestACertificateThatCannotBeRecordedDoesNotLeave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failure string
		hinder  func(t *testing.T, dir string)
		want    string
	}{
		{"a file where the record's directory should be", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "record"), nil, 0o600))
		}, "not a directory"},
		{"a full disk", func(t *testing.T, dir string) {
			if _, err := os.Stat("/dev/full"); err != nil {
				t.Skip("needs /dev/full")
			}
			must(t, os.Mkdir(filepath.Join(dir, "record"), 0o700))
			must(t, os.Symlink("/dev/full", filepath.Join(dir, "record", recordDay.Format(recordLayout))))
		}, "no space left"},
		{"a day of more certificates than there can be", func(t *testing.T, dir string) {
			must(t, openRecord(dir).append(recordedAt("01", recordDay)))
			must(t, os.Truncate(filepath.Join(dir, "record", recordDay.Format(recordLayout)), maxRecordDay))
		}, "would grow past"},
	} {
		t.Run(c.failure, func(t *testing.T) {
			t.Parallel()
			issuers := memoryIssuers(t, func() time.Time { return recordDay })
			c.hinder(t, issuers.dir)
			key, err := NewKey()
			must(t, err)
			chain, err := issuers.Issue(Leaf{ID: workload(t, "/service/ledger"), PublicKey: key.Public(), Life: time.Minute})
			if err == nil || chain != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "nothing is issued until it can be written") {
				t.Errorf("Issue: a chain of %d, error %v; want none, and an error with %q", len(chain), err, c.want)
			}
		})
	}
}

func TestLiveRecordsAreThoseThatHaveNotExpired(t *testing.T) {
	t.Parallel()
	now := recordDay
	issuers := memoryIssuers(t, func() time.Time { return now })
	dir := issuers.dir
	if live, err := issuers.LiveRecords(now); err != nil || len(live) != 0 {
		t.Fatalf("before anything was issued: %d records, error %v", len(live), err)
	}
	key, err := NewKey()
	must(t, err)
	chain, err := issuers.Issue(Leaf{ID: workload(t, "/service/ledger"), PublicKey: key.Public(), Life: time.Hour, Requester: "spiffe://mesh.local/agent/a"})
	must(t, err)
	live, err := issuers.LiveRecords(now)
	must(t, err)
	state := issuers.state.Load()
	want := []Record{{Serial: fmt.Sprintf("%x", chain[0].SerialNumber), ID: "spiffe://mesh.local/service/ledger", KeySHA256: keyDigest(chain[0]).String(),
		Requester: "spiffe://mesh.local/agent/a", Issued: now, NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter, Generation: 1,
		RootSHA256: certDigest(state.bundle.X509Authorities()[0]).String()}}
	if diff := cmp.Diff(want, live); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if live, err := issuers.LiveRecords(chain[0].NotAfter); err != nil || len(live) != 0 {
		t.Errorf("at its end: %d records, error %v; want none", len(live), err)
	}

	// A day that cannot matter any more is not read at all, whatever stands in it.
	old := filepath.Join(dir, "record", recordDay.Add(-40*24*time.Hour).Format(recordLayout))
	must(t, os.WriteFile(old, []byte("no record\n"), 0o600))
	if live, err := issuers.LiveRecords(now); err != nil || len(live) != 1 {
		t.Errorf("beside an old day that is damaged: %d records, error %v", len(live), err)
	}
	recent := filepath.Join(dir, "record", recordDay.Add(-24*time.Hour).Format(recordLayout))
	must(t, os.WriteFile(recent, []byte("no record\n"), 0o600))
	if _, err := issuers.LiveRecords(now); err == nil || !strings.Contains(err.Error(), filepath.Base(recent)+" line 1") {
		t.Errorf("beside a recent day that is damaged: %v, want an error that names file and line", err)
	}
}

// FuzzReadRecords also holds that whatever stands in a file, a record that is appended is read back.
func FuzzReadRecords(f *testing.F) {
	f.Add([]byte(`{"serial":"01","id":"spiffe://mesh.local/a","not_after":"2031-05-03T11:00:00Z"}` + "\n"))
	f.Add([]byte(`{"serial":"01"` + "\x00\x00"))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readRecords(bytes.NewReader(data), func(rec Record) {
			if rec.Serial == "" || rec.ID == "" || rec.NotAfter.IsZero() {
				t.Errorf("half a record: %+v", rec)
			}
		})
		path := filepath.Join(t.TempDir(), "day")
		must(t, os.WriteFile(path, data, 0o600))
		file, err := os.OpenFile(path, os.O_APPEND|os.O_RDWR, 0)
		must(t, err)
		line := []byte(`{"serial":"ff","id":"spiffe://mesh.local/b","not_after":"2031-05-03T11:00:00Z"}` + "\n")
		must(t, errors.Join(appendLocked(file, line), file.Close()))
		after, err := os.ReadFile(path)
		must(t, err)
		if len(data) > 0 && after[len(after)-len(line)-1] != '\n' || !bytes.HasSuffix(after, line) {
			t.Errorf("the record does not stand in a line of its own: %q", after)
		}
	})
}
