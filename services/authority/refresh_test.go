package authority_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
)

func (r *realm) renews(t *testing.T, client authorityv1.AuthorityServiceClient) error {
	t.Helper()
	_, err := client.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/ledger", nil)})
	return err
}

// Somebody damages the directory: what was read last stays in force, once said, until it can be read again.
func TestADamagedDirectoryLeavesTheLastGoodStateInForce(t *testing.T) {
	t.Parallel()
	var log logged
	r := openOwn(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	client := r.client(t, r.caller(t, "/service/ledger"))
	path := filepath.Join(r.dir, "bundle.pem")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "-----BEGIN CERTIFICATE-----\n")
	until(t, "the damage is reported", func() bool { return strings.Contains(log.text(), "what was read last stays in force") })
	if err := r.renews(t, client); err != nil {
		t.Errorf("with a damaged bundle file: %v", err)
	}
	if bundle, err := client.GetBundle(within(t), &authorityv1.GetBundleRequest{}); err != nil || len(bundle.GetRoots()) != 1 {
		t.Errorf("with a damaged bundle file: %v, %v", bundle, err)
	}
	write(t, path, string(good))
	until(t, "the repair is reported", func() bool { return strings.Contains(log.text(), "can be read again") })
	if err := r.renews(t, client); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

// A certificate of which nobody could say later that it exists does not leave.
func TestAttackACertificateWithoutARecord(t *testing.T) {
	t.Parallel()
	r := openOwn(t)
	client := r.client(t, r.caller(t, "/service/ledger"))
	record := filepath.Join(r.dir, "record")
	if err := os.Rename(record, record+".away"); err != nil {
		t.Fatal(err)
	}
	write(t, record, "in the way")
	if err := r.renews(t, client); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want %s", err, codes.Unavailable)
	}
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(record+".away", record); err != nil {
		t.Fatal(err)
	}
	if err := r.renews(t, client); err != nil {
		t.Errorf("once it can be written again: %v", err)
	}
}
