package interceptors_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// wireAttacks are requests that no gRPC client writes, on a raw HTTP/2 connection of a peer that holds ledger.reader,
// for a method that it may not call: any spelling that a check and the router read differently would let it in.
var wireAttacks = []attack{
	{name: ":path without slash", verdict: verdict{code: codes.Unimplemented}, run: asking("ledger.v1.LedgerService/Transfer")},
	{name: ":path with double slash", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("//ledger.v1.LedgerService/Transfer")},
	{name: ":path with double slash inside", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService//Transfer")},
	{name: ":path with trailing slash", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Transfer/")},
	{name: ":path with percent-encoding", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Trans%66er")},
	{name: ":path with an encoded slash", verdict: verdict{code: codes.Unimplemented}, run: asking("/ledger.v1.LedgerService%2FTransfer")},
	{name: ":path in other case", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/transfer")},
	{name: ":path of another case of the service", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/Ledger.V1.LedgerService/Transfer")},
	{name: ":path with a dot segment", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/./Transfer")},
	{name: ":path with a query", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Transfer?x=y")},
	{name: ":path of a method that does not exist", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Nothing")},
	{name: ":path of a service that does not exist", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/nothing.v1.Nothing/Nothing")},
	{name: ":path as it should be, without the role", verdict: roleRequired, audit: "ROLE_REQUIRED", run: asking("/ledger.v1.LedgerService/Transfer")},
	{name: "upper case in a raw header name", verdict: handshake, run: func(t *testing.T, m *mesh) error {
		return m.request(t, "/ledger.v1.LedgerService/Transfer", hpack.HeaderField{Name: "Rolecall-Roles", Value: "ledger.writer"})
	}},
}

var notAnnotated = verdict{code: codes.PermissionDenied, reason: "METHOD_NOT_ANNOTATED"}

// TestARawRequestCanSucceed shows that the raw requests above fail for what is wrong with them.
func TestARawRequestCanSucceed(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	if err := m.request(t, "/ledger.v1.LedgerService/GetBalance"); err != nil {
		t.Fatal(err)
	}
}

func asking(path string) func(*testing.T, *mesh) error {
	return func(t *testing.T, m *mesh) error { return m.request(t, path) }
}

// request makes a gRPC request with an empty message, frame by frame, and returns its status.
func (m *mesh) request(t *testing.T, path string, extra ...hpack.HeaderField) error {
	t.Helper()
	conn, err := m.tls(t, m.cert(m.ca.Issue(reader)), func(c *tls.Config) {})
	must(t, err)
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(t, framer.WriteSettings())
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: path}, {Name: ":authority", Value: "ledger"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, extra...) {
		must(t, encoder.WriteField(field))
	}
	must(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}))
	must(t, framer.WriteData(1, true, make([]byte, 5))) // not compressed, length zero
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			return errors.New("the stream was reset: " + frame.ErrCode.String())
		case *http2.GoAwayFrame:
			return errors.New("the connection was ended: " + frame.ErrCode.String())
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				return trailerStatus(t, frame)
			}
		}
	}
}

func trailerStatus(t *testing.T, frame *http2.MetaHeadersFrame) error {
	t.Helper()
	var code int
	var message, details string
	for _, field := range frame.Fields {
		switch field.Name {
		case "grpc-status":
			n, err := strconv.Atoi(field.Value)
			must(t, err)
			code = n
		case "grpc-message":
			message = field.Value
		case "grpc-status-details-bin":
			details = field.Value
		}
	}
	if details != "" {
		raw, err := base64.RawStdEncoding.DecodeString(details)
		must(t, err)
		var s spb.Status
		must(t, proto.Unmarshal(raw, &s))
		return status.FromProto(&s).Err()
	}
	return status.New(codes.Code(code), message).Err()
}
