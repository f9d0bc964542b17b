package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"example.com/rolecall/interceptors/exactlyonce"
)

// Status makes the gRPC status of an error that a handler ended with. An error that is a status already stays what it is.
// Anything else is of the database: the caller learns whether it is worth trying again, the log learns what it was.
func Status(ctx context.Context, log *slog.Logger, doing string, err error) error {
	if err == nil {
		return nil
	}
	var known caused
	if errors.As(err, &known) {
		return known
	}
	var already interface{ GRPCStatus() *status.Status }
	if errors.As(err, &already) {
		return already.GRPCStatus().Err()
	}
	if ctx.Err() != nil && !errors.Is(err, ErrOutcomeUnknown) {
		return status.FromContextError(ctx.Err()).Err()
	}
	// A transaction of exactly_once is run again by who began it, and logged if that is of no use.
	if gaveWay(err) && exactlyonce.Tx(ctx) != nil {
		return caused{statusGaveWay, err}
	}
	log.LogAttrs(ctx, slog.LevelError, "database error", slog.String("doing", doing), slog.Any("error", err))
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		return status.Error(codes.Unknown, "the database did not say whether the change was made: read it back before trying again")
	case gaveWay(err):
		return statusGaveWay
	case passing(err):
		return status.Error(codes.Unavailable, "the database does not answer: try again later")
	default:
		return status.Error(codes.Internal, "internal error")
	}
}

var statusGaveWay = status.Error(codes.Aborted, "too many changes at once: try again")

// caused is a status that remembers what it was made of.
type caused struct{ seen, cause error }

func (c caused) Error() string              { return c.seen.Error() }
func (c caused) Unwrap() error              { return c.cause }
func (c caused) GRPCStatus() *status.Status { return status.Convert(c.seen) }

// passing says whether the error may be gone at the next try, with nothing changed by this one.
func passing(err error) bool {
	var inSQLite *sqlite.Error
	if errors.As(err, &inSQLite) {
		primary := inSQLite.Code() & 0xff // https://www.sqlite.org/rescode.html: the rest is the extension
		return primary == sqlite3.SQLITE_BUSY || primary == sqlite3.SQLITE_LOCKED
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// Class 08 connection exception, 53 insufficient resources, 57 operator intervention.
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "57P")
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
