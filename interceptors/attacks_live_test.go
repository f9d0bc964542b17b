package interceptors_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/rolecalltest"
)

// liveAttacks are made by peers whose connection was good when it began.
var liveAttacks = []attack{
	{name: "expired certificate on a live connection", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		run: func(t *testing.T, m *mesh) error {
			m.guard.PauseSweep() // which would close the connection, perhaps between two calls
			return callUntilRefused(t, m, m.dialAs(m.ca.Source(reader, short)))
		}},
	{name: "expired certificate on an open idle stream", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		run: func(t *testing.T, m *mesh) error {
			return idleStream(t, m, m.dialAs(m.ca.Source(reader, short)), func() {})
		}},
	{name: "expired certificate on a stream blocked in SendMsg by a client that does not read", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		run: func(t *testing.T, m *mesh) error {
			return blockedSender(t, m, m.dialAs(m.ca.Source(reader, short)), func() {})
		}},
	{name: "expired certificate on a stream blocked in RecvMsg", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		mesh: bindings(adminRoles),
		run: func(t *testing.T, m *mesh) error {
			return blockedReceiver(t, m, m.dialAs(m.ca.Source("/service/admin", short)), func() {})
		}},
	{name: "ID denied while connected", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED", detail: "stolen",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			conn := m.dial(reader)
			must(t, balance(t, conn))
			file.write(t, roles+"denied:\n  - member: spiffe://mesh.local/service/reader\n    reason: stolen\n")
			return callUntilRefused(t, m, conn)
		}},
	{name: "key denied while connected", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED", detail: "copied",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			source := m.ca.Source(reader)
			conn := m.dialAs(source)
			must(t, balance(t, conn))
			file.write(t, roles+"denied:\n  - keySha256: "+keyOf(leafOf(t, source))+"\n    reason: copied\n")
			return callUntilRefused(t, m, conn)
		}},
	{name: "ID denied while a stream is open and idle", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			return idleStream(t, m, m.dial(reader), func() {
				file.write(t, roles+"denied:\n  - member: spiffe://mesh.local/service/reader\n")
			})
		}},
	{name: "denied peer that asks for methods nobody has", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED", detail: "stolen",
		mesh: bindings(roles + "denied:\n  - member: spiffe://mesh.local/service/reader\n    reason: stolen\n"),
		run: func(t *testing.T, m *mesh) error {
			return m.dial(reader).Invoke(timeout(t), "/no.Such/Method", &ledgerv1.TransferRequest{}, &ledgerv1.TransferResponse{})
		}},
	{name: "key of the CA denied while connected", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			conn := m.dial(reader)
			must(t, balance(t, conn))
			file.write(t, roles+"denied:\n  - keySha256: "+keyOf(m.ca.Root())+"\n")
			return callUntilRefused(t, m, conn)
		}},
	{name: "key of the issuer denied while connected", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			issuer, issuerKey := m.ca.Intermediate()
			leaf, key := m.ca.IssueUnder(issuer, issuerKey, reader)
			source := m.ca.Source(reader)
			source.Use(key, leaf, issuer)
			conn, other := m.dialAs(source), m.dial(writer)
			must(t, balance(t, conn))
			must(t, balance(t, other))
			file.write(t, roles+"denied:\n  - keySha256: "+keyOf(issuer)+"\n")
			err := callUntilRefused(t, m, conn)
			if err := balance(t, other); err != nil {
				t.Errorf("a leaf of another issuer is refused too: %v", err)
			}
			m.ledger.reached.Store(0)
			return err
		}},
	{name: "CA left the bundle while connected", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			conn := m.dial(reader)
			must(t, balance(t, conn))
			m.source.Trust(rolecalltest.NewCA(t, "mesh.local"))
			return callUntilRefused(t, m, conn)
		}},
	{name: "CA left the bundle while a stream is open and idle", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			return idleStream(t, m, m.dial(reader), func() { m.source.Trust(rolecalltest.NewCA(t, "mesh.local")) })
		}},
	{name: "role taken away on an open connection", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			conn := m.dial(reader)
			must(t, balance(t, conn))
			file.write(t, noRoles)
			return callUntilRefused(t, m, conn)
		}},
	{name: "role taken away from an open idle stream", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			return idleStream(t, m, m.dial(reader), func() { file.write(t, noRoles) })
		}},
	{name: "role taken away from a stream blocked in SendMsg by a client that does not read", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			return blockedSender(t, m, m.dial(reader), func() { file.write(t, noRoles) })
		}},
	{name: "role taken away from a stream blocked in RecvMsg", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			file.write(t, adminRoles)
			conn := m.dial("/service/admin")
			eventually(t, "the role", func() bool { return transfer(t, conn) == nil })
			return blockedReceiver(t, m, conn, func() { file.write(t, noRoles) })
		}},
	{name: "10,000 idle streams from one peer", verdict: verdict{code: codes.ResourceExhausted, reason: "RATE_LIMITED"}, audit: "RATE_LIMITED", run: idleStreams},
}
