package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"roverd/hardware"
	"roverd/netpoll"

	"github.com/gobwas/ws"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// goodbyeTime bounds how long the end waits for the other side to hear of it.
const goodbyeTime = time.Second

// server joins the event loops to the car.
type server struct {
	// Fixed once it runs.
	cfg       *config
	where     string // what car it is: "simulated", or the label of its GPIO chip
	car       *hardware.Car
	publisher *publisher
	acceptor  *netpoll.Acceptor
	decks     []*deck
	handover  *handover
	gate      *gate
	access    *access
	bridge    *bridge
	audit     *audit
	stops     tally               // by cause
	outcomes  tally               // of commands
	messages  limit               // of a client
	lines     []*netpoll.Listener // for those who speak lines; none without -line
	settler   *settler
	proxied   sync.Map // of *netpoll.Conn: the netip.Addr of a client that came through a proxy
	log       *zap.Logger
	trouble   *zap.Logger // what clients do wrong: one line a minute for each class
	httpLog   *log.Logger

	// Of TLS; nil without it.
	certificate *certificate
	handshakes  *handshakes

	welcomes [control + 1]welcome // by role

	lastID atomic.Uint64 // of the clients

	// Owned by the car's goroutine.
	last hardware.State
}

// newServer opens the port and the lines. Nothing moves and nobody is served before run.
func newServer(cfg *config, logger *zap.Logger) (*server, []*netpoll.Listener, error) {
	s := &server{cfg: cfg, publisher: newPublisher(), audit: newAudit(logger), stops: newStops(), outcomes: newOutcomes(), log: logger}
	s.trouble = logger.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Minute, 1, 0)
	}))
	var err error
	if s.httpLog, err = zap.NewStdLogAt(logger, zap.DebugLevel); err != nil {
		return nil, nil, err
	}
	if cfg.TLSCert != "" {
		if err := s.startTLS(cfg.TLSCert, cfg.TLSKey); err != nil {
			return nil, nil, err
		}
	}
	// The port comes first: if another roverd has it, that one has the lines too.
	listeners, err := listen("-addr", cfg.Addr, cfg.Loops)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Line != "" {
		if s.lines, err = listen("-line", cfg.Line, cfg.Loops); err != nil {
			shut(listeners)
			return nil, nil, err
		}
	}
	s.handover = newHandover(net.TCPAddrFromAddrPort(listeners[0].Addr()))
	s.gate = newGate(cfg.MaxConns, cfg.MaxPerAddr, limit{cfg.MaxNewPerAddr, max(1, 4*cfg.MaxNewPerAddr)})
	s.messages = limit{cfg.MaxMessages, max(1, 2*cfg.MaxMessages)} // one in a while is one at a time
	s.access = newAccess(cfg.Open, cfg.Tokens.Control, cfg.Tokens.View, fmt.Sprint(listeners[0].Addr().Port()))
	s.settler = newSettler()

	if s.car, s.where, err = newCar(cfg, s.carChanged); err != nil {
		shut(listeners)
		shut(s.lines)
		return nil, nil, fmt.Errorf("%s: %w", cfg.file, err)
	}
	s.carChanged(s.car.State())
	s.bridge = newBridge(s.car, s.publisher, s.audit, cfg.Helm == helmShared)
	for _, r := range []role{view, control} {
		s.welcomes[r] = newWelcome(r, s.car.TTL(), cfg.Helm, s.where, cfg.Camera.URL)
	}
	s.welcomes[stranger] = newWelcome(stranger, s.car.TTL(), cfg.Helm, "", "") // no more than it has to know to log in
	return s, listeners, nil
}

// listen opens n listeners on an address that a flag names.
func listen(flag, addr string, n int) ([]*netpoll.Listener, error) {
	all, err := netpoll.Listen(addr, n)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("%s is in use: another roverd, or another program, listens there; stop it, or choose another port with %s", addr, flag)
	case err != nil:
		err = fmt.Errorf("%s %q: %w: want an address of this computer, and a port up to 65535 that roverd may open", flag, addr, err)
	}
	return all, err
}

// shut closes listeners that nobody accepts on.
func shut(listeners []*netpoll.Listener) {
	for _, ln := range listeners {
		ln.Close()
	}
}

// newCar takes the board's lines, and starts their guard, or simulates all that. where is what car it is.
func newCar(cfg *config, onChange func(hardware.State)) (car *hardware.Car, where string, err error) {
	of := cfg.car()
	report := func(sensor int, value float64) { car.Report(sensor, value) }
	if cfg.simulated() {
		return hardware.New(of, hardware.NewWorld(&of, report), nil, onChange), "simulated", nil
	}
	lines, where, err := hardware.OpenLines(of.Outputs())
	if err != nil {
		return nil, "", err
	}
	var watch hardware.Watch
	if cfg.Guard {
		if watch, err = hardware.StartGuard(lines); err != nil {
			return nil, "", errors.Join(err, lines.Close())
		}
	}
	car = hardware.New(of, lines, watch, onChange)
	sensors, err := hardware.OpenSensors(of.Sensors, report)
	if err != nil {
		if watch != nil {
			watch.Close(true)
		}
		return nil, "", errors.Join(err, lines.Close())
	}
	car.Sense(sensors)
	return car, where, nil
}

// run serves until ctx ends or a part fails; then it stops all parts, the car first, and waits for every one. When hurry
// ends too, it no longer waits for the viewers.
func (s *server) run(ctx, hurry context.Context, listeners []*netpoll.Listener, stdout io.Writer) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	publishing, endPublishing := context.WithCancel(context.Background())
	web := s.newHTTPServer()
	var car, publisher, http sync.WaitGroup
	var carErr error // of car

	if err := s.openDecks(len(listeners), fail); err != nil {
		fail(err)
	}
	s.publisher.publish() // so that a viewer finds a state from the first moment on
	car.Go(func() {
		carErr = s.car.Run(ctx)
		if carErr != nil && s.cfg.Drive.OnFault == faultStay {
			s.log.Error("the car is switched off", zap.Error(carErr))
			return
		}
		fail(carErr)
	})
	publisher.Go(func() {
		defer func() {
			if v := recover(); v != nil { // stop in order, and with the car, instead of dying on the spot
				fail(fmt.Errorf("panic in the publisher: %v\n%s", v, debug.Stack()))
			}
		}()
		s.publisher.run(publishing)
	})
	http.Go(func() { fail(web.Serve(s.handover)) })
	accept := func(listeners []*netpoll.Listener, open func(*deck, *netpoll.Conn, netip.AddrPort) netpoll.Handler) {
		for i, ln := range listeners {
			if ctx.Err() != nil || i >= len(s.decks) {
				ln.Close()
				continue
			}
			d := s.decks[i]
			err := s.acceptor.Accept(ln, d.loop, func(c *netpoll.Conn, from netip.AddrPort) netpoll.Handler { return open(d, c, from) })
			if err != nil {
				fail(err)
			}
		}
	}
	accept(listeners, (*deck).open)
	accept(s.lines, (*deck).openLine)
	if ctx.Err() == nil {
		s.announce(listeners[0].Addr(), stdout)
	}

	<-ctx.Done()
	car.Wait()
	if carErr != nil {
		s.log.Error("the car may not stand", zap.Error(carErr))
	} else {
		s.log.Info("the car stands; closing the connections")
	}
	endPublishing()
	publisher.Wait()
	if s.acceptor != nil {
		s.acceptor.Close()
	}
	s.sayGoodbye(hurry)
	s.bridge.close()
	if s.handshakes != nil {
		s.handshakes.stop()
	}
	s.settler.stop()
	web.Close()
	http.Wait()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = carErr
	}
	s.log.Info("stopped", zap.Error(err))
	return err
}

// sayGoodbye ends all connections: it gives the viewers a while to hear of it, or until hurry ends.
func (s *server) sayGoodbye(hurry context.Context) {
	ctx, cancel := context.WithTimeout(hurry, goodbyeTime)
	defer cancel()
	var decks sync.WaitGroup
	for _, d := range s.decks {
		decks.Go(func() {
			d.loop.Post(d.dismissFn)
			d.loop.Drain(ctx)
			d.loop.Close()
		})
	}
	decks.Wait()
}

func (s *server) openDecks(n int, fail func(error)) (err error) {
	// Go takes a processor away from a thread in a system call after up to 20 ms, and the acceptor waits in one; so does
	// the thread that makes a real car's pulses, which keeps its processor. Without some to spare each of their waits
	// could stop a loop, or the car, for so long.
	spare := 1
	if !s.cfg.simulated() {
		spare = 2
	}
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), n+spare))
	s.acceptor, err = netpoll.NewAcceptor(func(err error) { s.trouble.Error("accept", zap.Error(err)) })
	if err != nil {
		return err
	}
	for range n {
		d := newDeck(s)
		d.loop, err = netpoll.NewLoop(netpoll.Config{Between: d.sendAnswers, OnError: func(err error, fatal bool) {
			if fatal {
				fail(err)
			} else {
				s.trouble.Error("event loop", zap.Error(err))
			}
		}})
		if err != nil {
			return err
		}
		s.decks = append(s.decks, d)
	}
	s.publisher.decks = s.decks
	return nil
}

// reachable is how a listener is reached from this computer.
func reachable(addr netip.AddrPort) string {
	host := addr.Addr().String()
	if addr.Addr().IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port()))
}

// announce says where the page is and what car it drives.
func (s *server) announce(addr netip.AddrPort, stdout io.Writer) {
	scheme := "http"
	if s.handshakes != nil {
		scheme = "https"
	}
	url := fmt.Sprintf("%s://%s/", scheme, reachable(addr))
	s.log.Info("started", zap.String("url", url), zap.String("car", s.where), zap.Bool("open", s.cfg.Open),
		zap.Int("loops", s.cfg.Loops), zap.String("version", version()))
	fmt.Fprintf(stdout, "open %s%s in a browser\n", url, s.cfg.Tokens.query())
	if len(s.lines) > 0 {
		fmt.Fprintf(stdout, "or send commands as lines to tcp://%s\n", reachable(s.lines[0].Addr()))
	}
	switch {
	case !s.cfg.simulated():
		fmt.Fprintf(stdout, "the car is real: its lines are on GPIO chip %s\n", s.where)
	case s.cfg.wired():
		fmt.Fprintln(stdout, "the car is simulated, as -sim asks: no GPIO line is touched")
	default:
		fmt.Fprintln(stdout, "the car is simulated: no GPIO line is touched; -config FILE with a [motors] section drives a real one")
	}
	switch {
	case s.cfg.Open:
		fmt.Fprintln(stdout, "anyone who reaches it may drive, as -open asks")
	case s.cfg.Tokens.made && s.cfg.Tokens.View != "":
		fmt.Fprintln(stdout, "who only watches needs the token of the configuration; this one is to drive, and good until roverd ends")
	case s.cfg.Tokens.made:
		fmt.Fprintln(stdout, "who has no token only watches; this one is good until roverd ends (see the README for one that stays, and -open)")
	case s.cfg.Tokens.View != "":
		fmt.Fprintln(stdout, "who drives or watches needs a token of the configuration: add ?token=... to the address")
	default:
		fmt.Fprintln(stdout, "who drives needs the token of the configuration: add ?token=... to the address; others watch")
	}
}

// join makes a guest a viewer, on the goroutine of its loop.
func (s *server) join(g *guest, c *netpoll.Conn, r role) *viewer {
	v := &viewer{deck: g.deck, conn: c, id: s.lastID.Add(1), place: g.place, role: r}
	v.deck.add(v)
	s.publisher.crowd(1)
	s.settler.joined()
	c.SetDeadline(pingAfter)
	v.deck.scratch = s.welcomes[r].append(v.deck.scratch[:0], v.id)
	v.send(ws.OpText, v.deck.scratch)
	v.show(v.deck.topic.Load())
	if v.deck.leaving {
		v.close(ws.StatusGoingAway, stopping)
	}
	return v
}

// stepAside lets a loop give its processor to the car, if that has something to do. Loops that are busy with a crowd
// would leave it none for as long as the scheduler lets them, which is 10 ms.
func stepAside() { runtime.Gosched() }

// carChanged is told every new state of the car, on the car's goroutine.
func (s *server) carChanged(state hardware.State) {
	s.publisher.change(func(m *stateMessage) { m.setCar(state, s.car) })
	if state.Cause != "" && (state.Cause != s.last.Cause || state.EStop && !s.last.EStop) {
		s.audit.add(event{What: "stopped", Why: state.Cause})
		s.stops.add(state.Cause)
	}
	if state.Fault != s.last.Fault && state.Fault != "" {
		s.audit.add(event{What: "fault", Why: state.Fault})
	}
	s.last = state
}

// lost notes the end of a connection, unless it is an ordinary one.
func (s *server) lost(err error, c *netpoll.Conn) {
	defer s.proxied.Delete(c)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, netpoll.ErrLoopClosed) {
		s.complain("lost a connection", err, c)
	}
}

// complain logs what a client did wrong: the first of each class in a minute. The client's own words belong into err:
// as a field they are escaped, and don't make a class of their own.
func (s *server) complain(class string, err error, c *netpoll.Conn) {
	fields := []zap.Field{zap.Error(err)}
	if peer := c.Peer(); peer.IsValid() { // else it has already hung up
		fields = append(fields, zap.Stringer("peer", peer))
	}
	if client, ok := s.proxied.Load(c); ok {
		fields = append(fields, zap.Any("for", client))
	}
	s.trouble.Warn(class, fields...)
}
