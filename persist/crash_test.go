package persist_test

const crashDir = "BACKCHANNEL_CRASH_DIR"

func crashChild(string) {}
