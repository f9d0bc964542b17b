package interceptors

import (
	"encoding/json"
	"slices"
	"strings"

	"example.com/rolecall/interceptors/internal/feature"
)

// The JSON of gRPC's service config (gRFC A6), as far as it is used.
type (
	serviceConfig struct {
		MethodConfig []methodConfig `json:"methodConfig"`
	}
	methodConfig struct {
		Name        []methodName `json:"name"`
		RetryPolicy retryPolicy  `json:"retryPolicy"`
	}
	methodName struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	retryPolicy struct {
		MaxAttempts          int      `json:"maxAttempts"`
		InitialBackoff       string   `json:"initialBackoff"`
		MaxBackoff           string   `json:"maxBackoff"`
		BackoffMultiplier    float64  `json:"backoffMultiplier"`
		RetryableStatusCodes []string `json:"retryableStatusCodes"`
	}
)

// serviceConfig has gRPC send a request again of which nobody knows what came of it, where the method says that this does no
// harm: after 0.1 s and longer each time, with jitter, four times in all and within the deadline of the call. ABORTED is what
// answers a request with exactly_once while the first attempt still runs.
//
// Methods with requires_proof are left out: gRPC would send the same proof again, which has been used up. Streams are as well: who
// reads one goes on somewhere else in it than where it was opened, and must see that it has ended.
func (d *described) serviceConfig() string {
	var plain, once []methodName
	for _, m := range d.all() {
		switch name := nameOf(m); {
		case m.Proof || !m.Idempotent || m.ClientStream || m.ServerStream:
		case m.ExactlyOnce:
			once = append(once, name)
		default:
			plain = append(plain, name)
		}
	}
	var config serviceConfig
	for _, group := range []struct {
		names []methodName
		codes []string
	}{{plain, []string{"UNAVAILABLE"}}, {once, []string{"UNAVAILABLE", "ABORTED"}}} {
		if len(group.names) == 0 {
			continue
		}
		slices.SortFunc(group.names, func(a, b methodName) int { return strings.Compare(a.Service+a.Method, b.Service+b.Method) })
		config.MethodConfig = append(config.MethodConfig, methodConfig{group.names, retryPolicy{
			MaxAttempts: feature.MaxAttempts, InitialBackoff: "0.1s", MaxBackoff: "1s", BackoffMultiplier: 2, RetryableStatusCodes: group.codes,
		}})
	}
	text, _ := json.Marshal(config) // strings and numbers, which always have a JSON
	return string(text)
}

func nameOf(m feature.Method) methodName {
	service, method, _ := strings.Cut(strings.TrimPrefix(m.Full, "/"), "/")
	return methodName{service, method}
}
