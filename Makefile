# Two commands are all the set-up: `make run` and `make test`. `make help` lists the rest.

GO         ?= go
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ROUNDS     ?= 5

# Of inputs, not a time: at the end of a time Go 1.26 may report a failure that is none (golang/go#75804).
FUZZTIME   ?= 500000x

# What the tests need beyond Go, as Debian packages and as what to look for: Chromium for the page; QEMU and what
# builds its guests for GPIO; a C compiler and library for -race; the clients and the proxy of server/interop; wrk, to hold bench against.
PACKAGES = chromium wrk qemu-system-x86 qemu-system-arm device-tree-compiler cpio gcc libc6-dev xz-utils busybox-static libelf1 curl nginx-light openssl nodejs node-ws python3-websockets python3-jsonschema
COMMANDS = chromium wrk qemu-system-x86_64 qemu-system-aarch64 fdtput cpio gcc xz busybox curl openssl node

REVISION := $(shell git describe --always --dirty 2>/dev/null)
BUILD     = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.revision=$(REVISION)"
# The guest has no C library, so -race is linked statically there.
GUESTTEST = CGO_ENABLED=1 $(GO) test -race -c -ldflags '-linkmode external -extldflags "-static -Wl,--no-warnings"'

# What is measured is the program as it is built for a car, in a guest that does not feel what else this machine does.
TIMED = CGO_ENABLED=0 $(GO) test -c -o bin/timed/server.test ./server && \
	hardware/gpiosim/guest -i -t 3600 -a '-test.v -test.run $(1) -rounds $(ROUNDS)' bin/timed/server.test

.PHONY: help run build test prerequisites lint unit browser interop guest faults pulses raspi cross fuzz bench million deps clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

run: build ## build, and serve a simulated car on :9900
	bin/roverd -sim

build: ## build bin/roverd
	$(BUILD) -o bin/roverd ./server

test: FUZZTIME = 50000x
test: ROUNDS = 3
test: prerequisites lint unit fuzz browser interop guest faults raspi cross ## everything that CI relies on

prerequisites:
	@missing=; for c in $(COMMANDS); do command -v $$c >/dev/null || missing="$$missing $$c"; done; \
	test -z "$$missing" || { echo "make test: missing$$missing: run \`make deps\` as root, or: apt-get install --no-install-recommends $(PACKAGES)" >&2; exit 1; }

deps: ## install what the tests need, as root on Debian
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $(PACKAGES)

lint:
	@unformatted=$$(gofmt -l bench hardware netpoll server web); test -z "$$unformatted" || { echo "gofmt these:" $$unformatted >&2; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(STATICCHECK) ./...
	cd web/browser && $(GO) vet ./... && $(STATICCHECK) ./...
	cd bench/peers && $(GO) vet ./... && $(STATICCHECK) ./...

unit: ## the tests without hardware and browser
	CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...

browser: build ## the page, in Chromium
	cd web/browser && CGO_ENABLED=1 ROVERD_BIN=$(CURDIR)/bin/roverd $(GO) test -race -count=1 -timeout 10m ./...

interop: build ## clients that others wrote: curl, ws of Node.js, websockets of Python; nginx before roverd
	server/interop/run

guest: ## the tests on GPIO lines, in a QEMU guest
	$(GUESTTEST) -o bin/guest/hardware.test ./hardware
	$(GUESTTEST) -o bin/guest/server.test ./server
	hardware/gpiosim/guest -t 600 -a '-test.v -test.run GPIO' bin/guest/hardware.test bin/guest/server.test

faults: ## how long after each fault the car stands, ROUNDS times
	$(call TIMED,GPIOFaultTimes)

pulses: ## how wide the pulses on lines are, for ROUNDS seconds
	$(call TIMED,GPIOPulseWidths)

raspi: ## the tests on a Raspberry Pi, which QEMU emulates
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test -c -o bin/raspi/server.test ./server
	hardware/raspi/guest -a '-test.v -test.run Raspi -rounds 3' bin/raspi/server.test

cross: ## build for the boards
	GOOS=linux GOARCH=arm64 $(BUILD) -o bin/roverd-arm64 ./server
	GOOS=linux GOARCH=arm GOARM=7 $(BUILD) -o bin/roverd-armv7 ./server
	GOOS=linux GOARCH=arm GOARM=6 $(BUILD) -o bin/roverd-armv6 ./server
	GOOS=linux GOARCH=arm64 $(GO) vet ./...
	GOOS=linux GOARCH=arm $(GO) vet ./...

fuzz: ## try FUZZTIME inputs on each target (7000000x take an hour)
	$(GO) test -run '^$$' -fuzz FuzzDecoder -fuzztime $(FUZZTIME) ./server/websocket
	$(GO) test -run '^$$' -fuzz FuzzHead -fuzztime $(FUZZTIME) ./server/websocket
	$(GO) test -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZTIME) ./server
	$(GO) test -run '^$$' -fuzz FuzzHelm -fuzztime $(FUZZTIME) ./server
	$(GO) test -run '^$$' -fuzz FuzzSplitter -fuzztime $(FUZZTIME) ./server

bench: build ## compare with rivals and with raw epoll, on a quiet machine (ROUNDS=5 takes 18 minutes)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./bench
	cd bench/peers && $(GO) run ./compare -roverd $(CURDIR)/bin/roverd -bench $(CURDIR)/bin/bench -rounds $(ROUNDS) -json $(CURDIR)/bin/peers.json
	bin/bench plot bin/peers.json bin/plots

million: ## hold as many viewers as the machine allows (bench/million says how to get further)
	bench/million

clean: ## remove what was built
	rm -rf bin .cache
