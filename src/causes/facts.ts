/** Small facts by which a prediction and a packet that was seen are both judged. Pure. */
import { isMulticastAddress, isPrivateAddress } from "../address/special-purpose.ts";

/** Whether nobody at the destination has a way back to the source: private networks know each other, the internet none. */
export function needsTranslation(source: string, destination: string): boolean {
  return isPrivateAddress(source) && !isPrivateAddress(destination) && !isMulticastAddress(destination);
}
