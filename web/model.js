// What the page knows. All that is shown comes from here, so a lost connection
// cannot leave an old value standing somewhere as if it were live.

export const model = {
  link: 'connecting', linkText: '', // #status: its data-state and its words
  me: null, // the welcome frame of this connection
  state: null, // its newest state frame
  claim: null, // for the helm, if it is ours or we have to answer it: from, name, until
  keptAt: -Infinity, // when the driver refused ours
  estoppedAt: -Infinity, // when the emergency stop was seen to come
  quiet: false, // words are out and no answer came
  refusal: '', refusedAt: 0, // the newest error, shown for a while
  fault: '', // what broke the car; outlives the connection, which ends with the car
};

export const online = () => model.link === 'connected';
// Else what is known is old.
export const live = () => Boolean(online() && model.state && !model.quiet);
export const mayControl = () => online() && model.me.role === 'control';
export const estopped = () => Boolean(model.state && model.state.estop);
export const mayDrive = () => mayControl() && !estopped() && !model.fault;
export const shared = () => Boolean(model.me && model.me.helm === 'shared');
// The id of another who drives, and whom we may not disturb, or ''.
export const otherDriver = () => (model.state && !shared() && model.state.driver !== model.me.id ? model.state.driver : '');
