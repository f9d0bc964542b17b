package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestAnotherTrustDomainIsNamedWithAFileOrAnEndpoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		flag, file, url, endpoint, wrong string
	}{
		{flag: "other.example=other.json", file: "other.json"},
		{flag: "other.example=a,b=c.pem", file: "a,b=c.pem"},
		{flag: "other.example=other.json,https://other.example:8443/,spiffe://other.example/service/authority",
			file: "other.json", url: "https://other.example:8443/", endpoint: "spiffe://other.example/service/authority"},
		{flag: "other.example", wrong: "the form is"},
		{flag: "other.example=", wrong: "the form is"},
		{flag: "Other.Example=f", wrong: "trust domain"},
		{flag: "other.example=f,https://other.example:8443/", wrong: "needs its SPIFFE ID"},
		{flag: "other.example=f,spiffe://other.example/service/authority", wrong: "no https:// URL"},
		{flag: "other.example=f,https://,spiffe://other.example/a", wrong: "not a URL"},
		{flag: "other.example=f,https://u:p@other.example/,spiffe://other.example/a", wrong: "not a URL"},
		{flag: "other.example=f,https://other.example/,spiffe://third.example/a", wrong: "must be that of a workload of other.example"},
		{flag: "other.example=f,https://other.example/,spiffe://other.example", wrong: "must be that of a workload"},
		{flag: "other.example=,https://other.example/,spiffe://other.example/a", wrong: "a file"},
	} {
		t.Run(test.flag, func(t *testing.T) {
			t.Parallel()
			f, err := parseFederation(test.flag)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("got %+v, %v; want an error with %q", f, err, test.wrong)
				}
				return
			}
			endpoint := ""
			if !f.endpoint.IsZero() {
				endpoint = f.endpoint.String()
			}
			if err != nil || f.file != test.file || f.url != test.url || endpoint != test.endpoint || f.String() != test.flag {
				t.Errorf("got %+v (%s), %v", f, f, err)
			}
		})
	}
	if _, err := parseFederations([]string{"a.example=x", "a.example=y"}); err == nil {
		t.Error("one trust domain was given twice and taken")
	}
	if all, err := absoluteFederations([]string{"a.example=x"}); err != nil || !filepath.IsAbs(strings.TrimPrefix(all[0], "a.example=")) {
		t.Errorf("got %v, %v", all, err)
	}
}
