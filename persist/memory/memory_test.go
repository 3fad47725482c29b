package memory_test

import (
	"testing"

	"backchannel/persist/memory"
	"backchannel/persist/persisttest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(_ testing.TB, s persisttest.Settings) *persisttest.Subject {
	store := memory.New(s.Now, memory.WithRetention(s.Age, s.PerChannel, s.Total), memory.WithBounds(s.Bounds))
	return &persisttest.Subject{Log: store, Queue: store, Close: func() {}}
}

func TestLogKeepsItsContract(t *testing.T) { persisttest.RunLog(t, open) }

func TestQueueKeepsItsContract(t *testing.T) { persisttest.RunQueue(t, open) }
