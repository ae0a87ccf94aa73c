// The route that is shown, and the way to another.

import { type Route, href, parse } from './route';

class Place {
  route = $state.raw<Route>(parse(location.hash));

  start(): () => void {
    const follow = () => (this.route = parse(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }

  go(route: Route): void {
    location.hash = href(route);
  }

  /** Writes the address of what is shown already: no step of the browser's history. */
  note(route: Route): void {
    history.replaceState(null, '', href(route));
    this.route = route;
  }
}

export const place = new Place();
