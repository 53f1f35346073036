package cacheprogtest

func stdoutJSON(t *trial) {
	s := t.begin()
	s.exercise()
	if junk := s.noted().junk; len(junk) > 0 {
		t.failf("the program writes %s, and %d more of the kind", junk[0], len(junk)-1)
	}
}

func oneAnswer(t *trial) {
	s := t.begin()
	s.exercise()
	if twice := s.noted().twice; len(twice) > 0 {
		t.failf("second answers to the requests %v", twice)
	}
}

func knownIDs(t *trial) {
	s := t.begin()
	s.exercise()
	if unknown := s.noted().unknown; len(unknown) > 0 {
		t.failf("answers to the requests %v, which never were", unknown)
	}
}
