// The camera's picture: from the address that the user set, else from the one
// that the server offers.
import { $, put, recall, remember } from './page.js';

const image = $('camera');
const field = $('camera-url');
let offered = ''; // the address the server names
let url = ''; // the one on show

function tell(text, retry = false) {
  put($('camera-note'), text);
  $('camera-retry').hidden = !retry;
  image.hidden = Boolean(text);
}

// The address to load, or '' when it is none for http: or https:.
function parse(address) {
  try {
    const parsed = new URL(address.replace('HOST', location.hostname));
    return /^https?:$/.test(parsed.protocol) ? parsed.href : '';
  } catch {
    return '';
  }
}

function show() {
  const address = field.value.trim() || offered;
  image.removeAttribute('src');
  if (!address) return tell('No camera configured');
  url = parse(address);
  if (!url) return tell(`“${address}” is no camera address: it must start with http:// or https://`);
  tell(`Waiting for the picture from ${url}`);
  image.src = url;
}

export function offerPicture(address) {
  offered = address || '';
  field.placeholder = parse(offered) || 'http://…';
  show();
}

image.onload = () => tell('');
image.onerror = () => tell(`No picture from ${url}: set the address below or start mjpg-streamer`, true);
$('camera-retry').onclick = show;
$('camera-form').onsubmit = (event) => {
  event.preventDefault();
  show();
  const address = field.value.trim();
  if (!address || parse(address)) remember('camera-url', address);
};
field.value = recall('camera-url');
