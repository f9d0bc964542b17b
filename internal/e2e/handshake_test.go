//go:build unix

package e2e_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/rolecalltest"
)

func TestWhoDoesNotComeWithMutualTLSFailsAtTheHandshake(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	ledger := running.service(t, "ledger")
	alice := running.caller(t, "alice")
	svid, err := alice.source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	genuine := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		genuine.Certificate = append(genuine.Certificate, c.Raw)
	}
	eve := rolecalltest.NewCA(t, running.file.TrustDomain)
	cert, key := eve.Issue("/operator/alice")
	forged := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}

	for _, test := range []struct {
		name   string
		config *tls.Config // nil: plaintext
		reason string      // in audit record and metric; empty: the connection is good
		claims string
	}{
		{"mutual TLS 1.3 gets through", &tls.Config{Certificates: []tls.Certificate{genuine}}, "", ""},
		{"plaintext", nil, "not_tls", ""},
		{"no certificate", &tls.Config{}, "no_certificate", ""},
		{"a certificate of another CA", &tls.Config{Certificates: []tls.Certificate{forged}}, "untrusted", alice.id(t)},
		{"a CA of the operating system's kind, sent along", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw, eve.Root().Raw}, PrivateKey: key}}}, "untrusted", alice.id(t)},
		{"TLS 1.2 with a good certificate", &tls.Config{Certificates: []tls.Certificate{genuine}, MaxVersion: tls.VersionTLS12}, "tls_version", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			before := refusedHandshakes(t, ledger, test.reason)
			us, err := knock(t, ledger.Address, test.config)
			if test.reason == "" {
				if err != nil {
					t.Fatalf("the connection failed: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("the server speaks HTTP/2 on this connection")
			}
			t.Logf("the client sees: %v", err)
			var record auditRecord
			await(t, "audit record", func() error {
				var err error
				record, err = auditOf(running, "ledger", us)
				return err
			})
			if record.Event != "handshake" || record.Verdict != "denied" || record.Reason != test.reason || record.Claimed != test.claims {
				t.Errorf("audit record %+v, want a denied handshake with reason %q and claimed ID %q", record, test.reason, test.claims)
			}
			await(t, "metric", func() error {
				if now := refusedHandshakes(t, ledger, test.reason); now <= before {
					return fmt.Errorf("rolecall_handshakes_refused_total{reason=%q} is %v, and was %v before", test.reason, now, before)
				}
				return nil
			})
		})
	}
}

func (c *caller) id(t *testing.T) string {
	t.Helper()
	svid, err := c.source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return svid.ID.String()
}

// knock connects and waits until the server begins HTTP/2. It returns the own address, by which the server knows us.
func knock(t *testing.T, address string, config *tls.Config) (us string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	talk := conn
	if config == nil {
		// Without TLS the server waits for our first bytes; whatever it makes of them shows below.
		_, _ = io.WriteString(conn, http2.ClientPreface)
	} else {
		config = config.Clone()
		config.InsecureSkipVerify, config.NextProtos = true, []string{http2.NextProtoTLS}
		talk = tls.Client(conn, config)
	}
	var header [9]byte
	if _, err := io.ReadFull(talk, header[:]); err != nil {
		return conn.LocalAddr().String(), err
	}
	if http2.FrameType(header[3]) != http2.FrameSettings {
		return conn.LocalAddr().String(), errors.New("the answer is not HTTP/2")
	}
	return conn.LocalAddr().String(), nil
}

// auditRecord is what the tests look at of an audit record.
type auditRecord struct {
	Event   string `json:"event"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Claimed string `json:"claimed_id"`
	Peer    string `json:"peer"`
}

// auditOf returns the audit record of a service about a peer's address.
func auditOf(m *runningMesh, service, peer string) (auditRecord, error) {
	for _, line := range logLines(m, service) {
		var r auditRecord
		if json.Unmarshal([]byte(line), &r) == nil && r.Peer == peer {
			return r, nil
		}
	}
	return auditRecord{}, fmt.Errorf("the log of %s has no audit record of %s", service, peer)
}

// logLines returns the log of a service; none if it cannot be read.
func logLines(m *runningMesh, service string) []string {
	d, err := mesh.Open(m.dir)
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(d.Log(service))
	if err != nil {
		return nil
	}
	return strings.Split(string(data), "\n")
}

// refusedHandshakes reads the metric of a service.
func refusedHandshakes(t *testing.T, s mesh.Service, reason string) float64 {
	t.Helper()
	body := adminGet(t, s, "/metrics")
	var sum float64
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(name, "rolecall_handshakes_refused_total{") && strings.Contains(name, fmt.Sprintf("reason=%q", reason)) {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("metric %q: %v", lines.Text(), err)
			}
			sum += n
		}
	}
	return sum
}

// adminGet reads a page of a service's admin address.
func adminGet(t *testing.T, s mesh.Service, path string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("admin address of %s: %v", s.Name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("admin address of %s: %v", s.Name, err)
	}
	return string(body)
}
