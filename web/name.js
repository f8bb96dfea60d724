// The name by which others call who drives here.
import { mayControl } from './model.js';
import { $, recall, remember } from './page.js';

// Returns the function that tells the server the name, when there is one.
export function createName(ask) {
  const field = $('name');
  const say = (name) => ask({ op: 'name', name }, `name ${name}`.trim());

  $('name-form').onsubmit = (event) => {
    event.preventDefault();
    const name = field.value.trim();
    remember('name', name);
    say(name);
    field.blur(); // keys drive again
  };
  field.value = recall('name');

  return () => {
    const name = recall('name');
    if (name && mayControl()) say(name);
  };
}
