// The token that makes who only watches a driver, without a reload.
import { mayControl, model } from './model.js';
import { $ } from './page.js';

export function createLogin(ask, onControl) {
  $('login').onsubmit = (event) => {
    event.preventDefault();
    const token = $('token').value.trim();
    if (!token) return;
    ask({ op: 'auth', token }, 'auth', ({ role }) => {
      if (!role) return $('token').select(); // the error says why
      $('token').value = '';
      $('token').blur(); // keys drive now
      model.me.role = role;
      if (!mayControl()) return;
      keep(token);
      onControl();
    });
  };
}

// Has the server set the cookie that is good for the next connection, too.
function keep(token) {
  fetch(`/?token=${encodeURIComponent(token)}`, { redirect: 'manual' }).catch(() => {});
}
