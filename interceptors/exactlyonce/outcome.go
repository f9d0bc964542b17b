package exactlyonce

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
)

const (
	// maxResponse bounds a stored response, in bytes: as large as gRPC's clients take one without being told otherwise.
	maxResponse = 4 << 20
	// maxRefusal bounds a stored refusal, in bytes; of a larger one the details are left out, and the message is cut.
	maxRefusal = 64 << 10
)

// Outcome is what came of a request, for good.
type Outcome struct {
	Response []byte         // the exact bytes, if it took effect
	Refusal  *status.Status // if it did not; else nil
	Stored   time.Time
}

// final tells whether a handler's error says that the request will never take effect, however often it is sent.
func final(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange:
		return true
	}
	return false
}

// finalRefusal returns the status of a handler's error if it is final. What an interceptor says that did not let the request
// through to the handler is not.
func finalRefusal(err error) (*status.Status, bool) {
	if errors.As(err, new(feature.Unreached)) {
		return nil, false
	}
	s, ok := status.FromError(err)
	return s, ok && err != nil && final(s.Code())
}

func isFinal(err error) bool {
	_, ok := finalRefusal(err)
	return ok
}

// encodeResponse makes the bytes that every repetition gets.
func encodeResponse(m proto.Message) ([]byte, error) {
	if m == nil {
		return nil, status.Error(codes.Internal, "the handler returned no response")
	}
	response, err := proto.Marshal(m)
	if err != nil {
		return nil, status.Error(codes.Internal, "the response cannot be encoded")
	}
	if len(response) > maxResponse {
		return nil, status.Errorf(codes.Internal, "the response has %d bytes, and %d can be stored: make it smaller", len(response), maxResponse)
	}
	return response, nil
}

// encodeRefusal makes the bytes that are stored of a refusal, and the status that the first caller gets as well. A refusal can
// always be stored, if need be without its text: else it would never be final, and a saga never end.
func encodeRefusal(s *status.Status) ([]byte, *status.Status) {
	p := s.Proto() // a copy
	if proto.Size(p) > maxRefusal {
		p = &spb.Status{Code: p.GetCode(), Message: p.GetMessage()[:min(len(p.GetMessage()), maxRefusal/2)]}
	}
	p.Message = strings.ToValidUTF8(p.GetMessage(), "?") // also where it was cut in a letter
	text, err := proto.Marshal(p)
	if err == nil {
		return text, status.FromProto(p)
	}
	bare := status.New(s.Code(), "")
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			if with, err := bare.WithDetails(info); err == nil {
				bare = with
			}
			break
		}
	}
	p = bare.Proto()
	if text, err = proto.Marshal(p); err != nil {
		p = &spb.Status{Code: int32(s.Code())}
		text, _ = proto.Marshal(p) // a number, which cannot fail
	}
	return text, status.FromProto(p)
}

// read returns what a row that is not running stands for.
func (r *row) read() (Outcome, error) {
	if r.state == done {
		return Outcome{Response: r.outcome, Stored: r.stored}, nil
	}
	var p spb.Status
	if err := proto.Unmarshal(r.outcome, &p); err != nil || p.GetCode() == int32(codes.OK) || r.state != refused {
		return Outcome{}, fmt.Errorf("the row of the request is damaged: state %q, %d bytes of outcome", r.state, len(r.outcome))
	}
	return Outcome{Refusal: status.FromProto(&p), Stored: r.stored}, nil
}

// answer makes what Do returns of a stored outcome.
func (o Outcome) answer() answer {
	if o.Refusal != nil {
		return answer{err: o.Refusal.Err()}
	}
	return answer{response: o.Response}
}

// gaveUp is the refusal of a request whose transactions have given way to others for too often.
var gaveUp = feature.Refusal{
	Code: codes.Aborted, Reason: feature.RequestInProgress.Reason, Wait: feature.RetryAfter,
	Message: "too many changes at once: send the request again, with the same request_id",
}

// again answers with a refusal that asks for the same request again.
func again(r feature.Refusal) answer { return answer{err: r.Err(nil), retry: r.Wait} }

// errNotFinal is the mistake of who stores a refusal that is not final.
func errNotFinal(code codes.Code) error {
	return status.Errorf(codes.Internal, "%v is not the code of a final refusal", code)
}
