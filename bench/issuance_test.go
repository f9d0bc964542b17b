package main

import (
	"testing"
	"time"
)

func TestBothSidesOfIssuanceSign(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func() (*place, error){
		"bare":      func() (*place, error) { return newWorkloads().bareIssuer() },
		"authority": recordingAuthority,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := start()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.close(); err != nil {
					t.Error(err)
				}
			}()
			conn, err := p.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if n, err := ask(conn, 2, time.Now().Add(time.Millisecond)); err != nil || n == 0 {
				t.Errorf("%d certificates, %v", n, err)
			}
		})
	}
}
