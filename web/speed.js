// How fast the driving words drive: a slider, and the keys 1 to 9 and 0.
import { $, put, recall, remember } from './page.js';

const slider = $('speed');

export const percent = () => Number(slider.value);

function show() {
  put($('speed-shown'), `${percent()} %`);
  slider.setAttribute('aria-valuetext', `${percent()} percent`);
  slider.style.setProperty('--share', (percent() - slider.min) / (slider.max - slider.min));
}

function set(value) {
  if (value) slider.value = value; // the slider itself keeps to its range
  show();
  remember('speed', percent());
}

// Returns whether this key sets the speed, and sets it.
export function typeSpeed(code) {
  const [, digit] = /^Digit(\d)$/.exec(code) || [];
  if (!digit || slider.disabled) return false;
  set(digit === '0' ? 100 : digit * 10);
  return true;
}

slider.oninput = () => set();
slider.onpointerup = () => slider.blur(); // the arrow keys drive again
set(recall('speed'));
