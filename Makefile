# The tasks of this project. make test installs what the tests need from
# Debian's packages where it may (as root, with apt-get), and says aloud what it
# leaves out where it may not; with CI=true nothing is left out.

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
# -count=1: the go command does not know that the acceptance tests build the
# program anew, and would answer from its cache.
TESTFLAGS   ?= -race -count=1

.PHONY: all build test demo lint cross bench fuzz needs clean

all: build

build:
	$(GO) build -trimpath -o bin/cred ./cmd/cred

demo: build
	@./bin/cred demo

test: needs
	$(GO) test $(TESTFLAGS) -timeout 20m ./...

needs:
	@./integration/acceptance/needs.sh

lint: cross
	@unformatted="$$(gofmt -l cmd broker scopes keystore integration)"; \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod verify
	$(GO) mod tidy -diff

cross:
	GOOS=darwin  GOARCH=arm64 $(GO) build -o /dev/null ./cmd/cred
	GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/cred
	GOOS=darwin  $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./scopes ./keystore ./broker/audit
	$(GO) test -run '^$$' -bench . -benchtime 3s ./broker ./integration/acceptance

fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; \
	    $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg || exit 1; \
	  done; \
	done

clean:
	rm -rf bin
