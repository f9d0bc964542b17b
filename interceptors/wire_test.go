package interceptors_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// wireTimeout is the deadline of a connection that a test drives itself: besides the patience, five seconds until the guard
// gives up a client that does not read.
const wireTimeout = patience + 5*time.Second

func (m *mesh) cert(leaf *x509.Certificate, key crypto.Signer, rest ...*x509.Certificate) *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{leaf.Raw}}
	for _, c := range rest {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func (m *mesh) tcp(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", m.addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (m *mesh) tls(t *testing.T, cert *tls.Certificate, change func(*tls.Config)) (*tls.Conn, error) {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	if change != nil {
		change(cfg)
	}
	conn := tls.Client(m.tcp(t), cfg)
	_ = conn.SetDeadline(time.Now().Add(wireTimeout))
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	if conn.ConnectionState().DidResume {
		t.Fatal("the server resumed a session")
	}
	return conn, nil
}

// shake connects with a TLS client of the test's own and returns why the server did not speak HTTP/2 with it. In TLS 1.3
// a refusal comes in the place of the frame with which an HTTP/2 server begins.
func (m *mesh) shake(t *testing.T, cert *tls.Certificate, change func(*tls.Config)) error {
	t.Helper()
	conn, err := m.tls(t, cert, change)
	if err != nil {
		return err
	}
	w, err := newWire(t, conn)
	if err != nil {
		return err
	}
	frame, err := w.framer.ReadFrame()
	if err != nil {
		return err
	}
	if _, ok := frame.(*http2.SettingsFrame); !ok {
		return errors.New("the server began with " + strings.TrimSpace(frame.Header().String()))
	}
	return nil
}

// wire is an HTTP/2 connection that a test drives frame by frame.
type wire struct {
	t       *testing.T
	conn    *tls.Conn
	framer  *http2.Framer
	streams uint32
}

func newWire(t *testing.T, conn *tls.Conn, settings ...http2.Setting) (*wire, error) {
	w := &wire{t: t, conn: conn, framer: http2.NewFramer(conn, conn)}
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err := io.WriteString(conn, http2.ClientPreface)
	return w, errors.Join(err, w.framer.WriteSettings(settings...))
}

// wire connects as whoever the certificate is of.
func (m *mesh) wire(t *testing.T, cert *tls.Certificate, settings ...http2.Setting) *wire {
	t.Helper()
	conn, err := m.tls(t, cert, nil)
	must(t, err)
	w, err := newWire(t, conn, settings...)
	must(t, err)
	return w
}

// ask opens a stream for a method and sends no more than its headers.
func (w *wire) ask(path string, extra ...hpack.HeaderField) (stream uint32) {
	w.t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: path}, {Name: ":authority", Value: "ledger"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, extra...) {
		must(w.t, encoder.WriteField(field))
	}
	stream = 2*w.streams + 1
	w.streams++
	must(w.t, w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true}))
	return stream
}

// say sends an empty message, not compressed, and ends the request with it.
func (w *wire) say(stream uint32) {
	w.t.Helper()
	must(w.t, w.framer.WriteData(stream, true, make([]byte, 5)))
}

// trailers is how a server ended a stream.
type trailers struct {
	stream uint32
	err    error
	fields []hpack.HeaderField
}

// goAway is how a server says that it will end the connection.
type goAway struct{ code http2.ErrCode }

func (g goAway) Error() string { return "the connection is to end: " + g.code.String() }

// answer reads until a stream ends or the connection does, which is the error.
func (w *wire) answer() (trailers, error) {
	w.t.Helper()
	_ = w.conn.SetDeadline(time.Now().Add(wireTimeout))
	for {
		frame, err := w.framer.ReadFrame()
		if err != nil {
			return trailers{}, err
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			if frame.ErrCode != http2.ErrCodeNo { // which follows trailers that came before the end of the request
				return trailers{stream: frame.StreamID, err: http2.StreamError{StreamID: frame.StreamID, Code: frame.ErrCode}}, nil
			}
		case *http2.GoAwayFrame:
			return trailers{}, goAway{frame.ErrCode}
		case *http2.PingFrame:
			if !frame.IsAck() {
				must(w.t, w.framer.WritePing(true, frame.Data))
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				return trailers{frame.StreamID, trailerStatus(w.t, frame), frame.Fields}, nil
			}
		}
	}
}

// closed waits until the server has closed the connection.
func (w *wire) closed() {
	w.t.Helper()
	for {
		_, err := w.answer()
		var drained goAway
		switch {
		case err == nil, errors.As(err, &drained):
		case hungUp(err):
			return
		default:
			w.t.Fatalf("the server did not close the connection: %v", err)
		}
	}
}

// hungUp reports whether err is what one sees of a peer that closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// request makes a gRPC request with an empty message as the reader, and returns its status.
func (m *mesh) request(t *testing.T, path string, extra ...hpack.HeaderField) error {
	t.Helper()
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	w.say(w.ask(path, extra...))
	ended, err := w.answer()
	if err != nil {
		return err
	}
	return ended.err
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
